package exchange

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// STSURL is where the SDK goes for a region: each partition has a domain of its own.
func STSURL(region string) string {
	e, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), sts.EndpointParameters{Region: &region})
	if err != nil {
		return "https://sts." + region + ".amazonaws.com" // the exchange itself will say what is wrong with the region
	}
	return e.URI.String()
}
