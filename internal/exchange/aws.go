package exchange

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// STSURL is where the SDK goes for a region: each partition has a domain of its own.
func STSURL(region string) string {
	e, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), sts.EndpointParameters{Region: &region})
	if err != nil {
		return "https://sts." + region + ".amazonaws.com" // the exchange itself will say what is wrong with the region
	}
	return e.URI.String()
}

// An AWSReply is what a service of AWS replied instead of what it was asked for.
type AWSReply struct {
	Status        int    // 0 where there was no reply
	Code, Message string // "" where the reply has none
}

// ReadAWS returns what an error of AWS's SDK holds of the reply.
func ReadAWS(err error) (r AWSReply) {
	var api smithy.APIError
	var reply *smithyhttp.ResponseError
	if errors.As(err, &reply) && reply.Response != nil && reply.Response.Response != nil {
		r.Status = reply.HTTPStatusCode()
	}
	if errors.As(err, &api) && api.ErrorCode() != "UnknownError" { // what the SDK calls a reply without a code
		r.Code, r.Message = api.ErrorCode(), api.ErrorMessage()
	}
	return r
}

// Passing reports whether another try may be answered: by the status, or by a
// code that is of a temporary fault with any status.
func (r AWSReply) Passing() bool {
	_, late := retry.DefaultRetryableErrorCodes[r.Code]
	return web.Transient(r.Status) || r.throttled() || late || slices.Contains([]string{"ServiceUnavailable", "InternalFailure",
		"InternalError", "InternalServerException", "SlowDownException"}, r.Code)
}

// Mark marks an error of a Passing reply for web.Retry.
func (r AWSReply) Mark(err error) error {
	if r.throttled() {
		return web.Throttled(err)
	}
	return web.Temporary(err)
}

// throttled reports whether the code is of too many requests, which STS says
// with status 400.
func (r AWSReply) throttled() bool {
	_, throttled := retry.DefaultThrottleErrorCodes[r.Code]
	return throttled
}
