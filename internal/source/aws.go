package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// fromAWS has STS sign a token for the role that this workload has: of
// CodeBuild, ECS, EKS Pod Identity, Lambda, MWAA and EC2.
// (AWS STS API: GetWebIdentityToken)
func fromAWS(ctx context.Context, env Env, audience string) (secret.Value, error) {
	region := env.Getenv("AWS_REGION")
	if region == "" {
		region = env.Getenv("AWS_DEFAULT_REGION")
	}
	if region == "" {
		return secret.Value{}, fault.New(fault.NoIdentity, errors.New("request ID token of AWS: AWS_REGION is not set"),
			"set it: tokens are issued by the regions' own endpoints only")
	}
	keys, err := awsKeys(ctx, env)
	if err != nil {
		return secret.Value{}, err
	}
	return AWSCaller{HTTP: env.HTTP, Region: region, Keys: keys}.WebIdentityToken(ctx, audience)
}

// An AWSCaller asks STS who it is.
type AWSCaller struct {
	HTTP     *http.Client // from web.NewClient
	Region   string
	Endpoint string // where AWS is simulated; "" for the region's own
	Keys     aws.Credentials
}

func (c AWSCaller) client() *sts.Client {
	options := sts.Options{
		Region: c.Region, HTTPClient: c.HTTP, Retryer: aws.NopRetryer{}, // askSTS does it again
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c.Keys, nil }),
	}
	if c.Endpoint != "" {
		options.BaseEndpoint = &c.Endpoint
	}
	return sts.New(options)
}

// ARN returns the name of the session that the keys are of.
func (c AWSCaller) ARN(ctx context.Context) (string, error) {
	out, err := askSTS(ctx, c, func(ctx context.Context, s *sts.Client) (*sts.GetCallerIdentityOutput, error) {
		return s.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	})
	if err != nil {
		return "", fault.New(fault.Unreachable, fmt.Errorf("ask AWS whose session it is: %w", err), web.Hint(err))
	}
	arn := aws.ToString(out.Arn)
	if !strings.HasPrefix(arn, "arn:") || exchange.IsGarbled(secret.New(arn)) {
		return "", fault.New(fault.Unreachable, errors.New("ask AWS whose session it is: the reply does not say"), "")
	}
	return arn, nil
}

// WebIdentityToken has STS sign a token for the owner of the keys.
func (c AWSCaller) WebIdentityToken(ctx context.Context, audience string) (secret.Value, error) {
	out, err := askSTS(ctx, c, func(ctx context.Context, s *sts.Client) (*sts.GetWebIdentityTokenOutput, error) {
		return s.GetWebIdentityToken(ctx, &sts.GetWebIdentityTokenInput{
			Audience: []string{audience}, SigningAlgorithm: aws.String("RS256"), DurationSeconds: aws.Int32(300),
		})
	})
	if err != nil && !errors.As(err, new(awsNo)) {
		return secret.Value{}, fault.New(fault.Unreachable, fmt.Errorf("request ID token of AWS: %w", err), web.Hint(err))
	}
	if err != nil {
		return secret.Value{}, fault.New(fault.NoIdentity, fmt.Errorf("request ID token of AWS: %w", err),
			"the role needs sts:GetWebIdentityToken, and the account outbound web identity federation: "+
				"aws iam enable-outbound-web-identity-federation")
	}
	return tokenOf(aws.ToString(out.WebIdentityToken), "the reply of AWS STS")
}

// An awsNo is the service's own refusal: code and message.
type awsNo string

// Error implements error.
func (n awsNo) Error() string { return string(n) }

// askSTS tries again what another try may cure. Errors have the code and
// message of AWS, and no body.
func askSTS[T any](ctx context.Context, c AWSCaller, ask func(context.Context, *sts.Client) (T, error)) (T, error) {
	client := c.client()
	return web.Retry(ctx, func(ctx context.Context) (T, error) {
		out, err := ask(ctx, client)
		if err != nil {
			err = awsError(err, c.Keys)
		}
		return out, err
	})
}

// awsError marks what another try may cure, and tells the service's no from the rest.
func awsError(err error, keys aws.Credentials) error {
	reply, text := exchange.ReadAWS(err), "unexpected reply"
	switch {
	case web.NoReply(err):
		return web.Failed(err)
	case reply.Code != "":
		secrets := []secret.Value{secret.New(keys.AccessKeyID), secret.New(keys.SecretAccessKey), secret.New(keys.SessionToken)}
		text = exchange.Quoted(reply.Code, secrets) + ": " + exchange.Quoted(reply.Message, secrets)
		if !reply.Passing() {
			return awsNo(text)
		}
	case reply.Status >= 300:
		text = fmt.Sprintf("status is %d, want 200", reply.Status)
	}
	if reply.Passing() {
		return reply.Mark(errors.New(text))
	}
	return errors.New(text)
}

// awsKeys returns the workload's keys, from the first place that its
// environment names: variables (Lambda), the container's endpoint (ECS, EKS,
// CodeBuild, MWAA), the instance's metadata (EC2). The order is the SDKs'.
func awsKeys(ctx context.Context, env Env) (keys aws.Credentials, err error) {
	if id := env.Getenv("AWS_ACCESS_KEY_ID"); id != "" {
		return aws.Credentials{
			AccessKeyID: id, SecretAccessKey: env.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: env.Getenv("AWS_SESSION_TOKEN"),
		}, nil
	}
	if relative := env.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); relative != "" {
		if !strings.HasPrefix(relative, "/") { // @evil.example would be a host
			return keys, fault.New(fault.NoIdentity,
				errors.New("request ID token of AWS: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with /"), "")
		}
		return keysAt(ctx, "http://169.254.170.2"+relative, nil)
	}
	if full := env.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"); full != "" {
		if !strings.HasPrefix(full, "http://169.254.170.23/") && !strings.HasPrefix(full, "http://[fd00:ec2::23]/") {
			if _, err := web.CheckURL(full); err != nil {
				return keys, fault.New(fault.NoIdentity, fmt.Errorf("request ID token of AWS: AWS_CONTAINER_CREDENTIALS_FULL_URI: %w", err), "")
			}
		}
		bearer := env.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		if path := env.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); path != "" {
			v, err := variableFile(path)
			if err != nil {
				return keys, err
			}
			bearer = v
		}
		if !headerText(bearer) {
			return keys, badHeader("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		}
		return keysAt(ctx, full, http.Header{"Authorization": {bearer}})
	}
	return instanceKeys(ctx, env)
}

// instanceKeys asks an EC2 instance's metadata service, in its second version.
func instanceKeys(ctx context.Context, env Env) (keys aws.Credentials, err error) {
	base := env.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")
	if base == "" {
		base = "http://169.254.169.254"
	}
	base = strings.TrimSuffix(base, "/")
	session, err := metadata(ctx, http.MethodPut, base+"/latest/api/token", http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"60"}})
	if err != nil {
		return keys, err
	}
	header := http.Header{"X-Aws-Ec2-Metadata-Token": {string(session)}}
	const roles = "/latest/meta-data/iam/security-credentials/"
	role, err := metadata(ctx, http.MethodGet, base+roles, header)
	if err != nil {
		return keys, err
	}
	return keysAt(ctx, base+roles+strings.TrimSpace(string(role)), header)
}

// keysAt reads keys from an endpoint of this machine.
func keysAt(ctx context.Context, address string, header http.Header) (keys aws.Credentials, err error) {
	text, err := metadata(ctx, http.MethodGet, address, header)
	if err != nil {
		return keys, err
	}
	var reply struct{ AccessKeyID, SecretAccessKey, Token string }
	if json.Unmarshal(text, &reply) != nil || reply.AccessKeyID == "" || reply.SecretAccessKey == "" {
		return keys, fault.New(fault.Unreachable, errors.New("request ID token of AWS: the reply with the role's keys has none"), "")
	}
	return aws.Credentials{AccessKeyID: reply.AccessKeyID, SecretAccessKey: reply.SecretAccessKey, SessionToken: reply.Token}, nil
}

func metadata(ctx context.Context, method, address string, header http.Header) ([]byte, error) {
	client := nearby(&http.Transport{})
	text, err := web.Retry(ctx, func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, method, address, nil)
		if err != nil {
			return nil, errors.New("not a URL")
		}
		if header != nil {
			req.Header = header.Clone()
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, web.Failed(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, statusError(resp.StatusCode)
		}
		var body bytes.Buffer
		_, err = body.ReadFrom(resp.Body)
		return body.Bytes(), err
	})
	if err != nil {
		return nil, fault.New(fault.NoIdentity, fmt.Errorf("request ID token of AWS: get the role's keys: %w", err),
			"kind aws is for workloads that have a role: CodeBuild, ECS, EKS, Lambda, MWAA, EC2")
	}
	return text, nil
}
