package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/redshift"
	"github.com/aws/aws-sdk-go-v2/service/redshiftserverless"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// awsDatabase matches the hosts that AWS gives to databases. China's RDS has
// the region behind the service.
var awsDatabase = lazy.MustCompile(`^(?:[a-z0-9-]+\.)+(?:([a-z]+(?:-[a-z]+)+-[0-9]+)\.(redshift|redshift-serverless|rds)|` +
	`(rds)\.([a-z]+(?:-[a-z]+)+-[0-9]+))\.(?:amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu)$`).
	Where(func(s string) bool { return strings.Contains(s, ".amazonaws.") })

// checkAWSLogin holds the warehouse to what a login at it is made from.
func checkAWSLogin(v policy.Values, w credential.Warehouse) error {
	if w.Asks.Login != credential.RedshiftLogin && v.Get("redshift_endpoint") != "" {
		return errors.New("redshift_endpoint is for type redshift only")
	}
	service, in := "", ""
	if m := awsDatabase.FindStringSubmatch(strings.ToLower(w.Host)); m != nil {
		service, in = m[2]+m[3], m[1]+m[4]
	}
	switch w.Asks.Login {
	case credential.RedshiftLogin:
		if err := checkCluster(w); err != nil {
			return err
		}
	case credential.RDSLogin:
		switch {
		case w.User == "", w.Port == 0:
			return errors.New("an RDS token requires host, port and user in the dbt output")
		case service != "rds" && !web.IsLoopback(w.Host):
			// RDS compares it; a name of one's own for it is never right.
			return hostFault("host %q is not an endpoint of RDS, and a token is valid for one endpoint only", w.Host)
		}
	default:
		return nil
	}
	if in != "" && in != v.Get("region") {
		return hostFault("host %q is in region %q, but the region of the exchange (line %d of the policy) is %q", w.Host, in,
			v.Line("region"), v.Get("region"))
	}
	return nil
}

// checkCluster wants to know which cluster or workgroup a login is for.
func checkCluster(w credential.Warehouse) error {
	if w.Redshift.Cluster == "" && w.Redshift.Workgroup == "" {
		return hostFault("host %q does not name the cluster or workgroup: set cluster_id or serverless_work_group", w.Host)
	}
	return nil
}

// redshiftEndpoint returns the endpoint of the API that gives logins.
func redshiftEndpoint(v policy.Values, in string, r credential.Redshift) string {
	if e := v.Get("redshift_endpoint"); e != "" {
		return e
	}
	if r.Workgroup != "" {
		if e, err := redshiftserverless.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(),
			redshiftserverless.EndpointParameters{Region: &in}); err == nil {
			return e.URI.String()
		}
		return "https://redshift-serverless." + in + ".amazonaws.com"
	}
	if e, err := redshift.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(),
		redshift.EndpointParameters{Region: &in}); err == nil {
		return e.URI.String()
	}
	return "https://redshift." + in + ".amazonaws.com"
}

// A databaseLogin is what each of Redshift's APIs replies.
type databaseLogin struct {
	user, password *string
	expiry         *time.Time
}

// redshiftLogin exchanges a session for a database user with a password.
func redshiftLogin(ctx context.Context, env exchange.Env, r exchange.Request,
	session credential.Credential) (credential.Credential, error) {
	life := exchange.Lifetime(r.Grant, time.Hour)
	if life == 0 {
		life = time.Hour // dbt logs in for almost every node; left out, AWS gives 15 minutes
	}
	ask, service := clusterLogin, "Redshift"
	if r.Warehouse.Redshift.Workgroup != "" {
		ask, service = workgroupLogin, "Redshift Serverless"
	}
	hint := func(code, _ string) string { return redshiftHint(code, r.Grant.Exchange(), r.Warehouse, session) }
	login, err := askAWS(ctx, service, hint, append(session.Secrets(), r.IDToken), func(ctx context.Context) (databaseLogin, error) {
		return ask(ctx, env, r, session.AWS, seconds(life))
	})
	switch {
	case err != nil:
		return credential.Credential{}, err
	case aws.ToString(login.password) == "":
		return credential.Credential{}, exchange.Unreachable("the reply from %s has no password", service)
	case len(aws.ToString(login.user)) > 200 || !databaseUser.MatchString(aws.ToString(login.user)):
		return credential.Credential{}, exchange.Unreachable("the reply from %s has no database user", service)
	case login.expiry == nil:
		return credential.Credential{}, exchange.Unreachable("the login in the reply from %s has no expiry", service)
	}
	return credential.Credential{Kind: credential.DatabaseLogin, ID: session.ID, Serial: session.Serial, Expiry: *login.expiry,
		User: *login.user, Password: secret.New(*login.password)}, nil
}

// clusterLogin is for the user that the dbt output names, else for the user of
// the role. (Redshift API Reference, GetClusterCredentials and
// GetClusterCredentialsWithIAM)
func clusterLogin(ctx context.Context, env exchange.Env, r exchange.Request, session *credential.AWS, life *int32) (databaseLogin, error) {
	v, w := r.Grant.Exchange(), r.Warehouse
	client := redshift.New(redshift.Options{
		Region: session.Region, BaseEndpoint: otherEndpoint(v, "redshift_endpoint"), Credentials: signsAs(session),
		HTTPClient: env.HTTP, Retryer: aws.NopRetryer{},
	})
	if w.User == "" {
		out, err := client.GetClusterCredentialsWithIAM(ctx, &redshift.GetClusterCredentialsWithIAMInput{
			ClusterIdentifier: &w.Redshift.Cluster, DbName: &w.Database, DurationSeconds: life,
		})
		if err != nil {
			return databaseLogin{}, err
		}
		return databaseLogin{out.DbUser, out.DbPassword, out.Expiration}, nil
	}
	out, err := client.GetClusterCredentials(ctx, &redshift.GetClusterCredentialsInput{
		ClusterIdentifier: &w.Redshift.Cluster, DbUser: &w.User, DbName: &w.Database, DurationSeconds: life,
		AutoCreate: &w.Redshift.AutoCreate, DbGroups: w.Redshift.Groups,
	})
	if err != nil {
		return databaseLogin{}, err
	}
	return databaseLogin{out.DbUser, out.DbPassword, out.Expiration}, nil
}

// workgroupLogin is for the user of the role; there is no other login at a
// serverless workgroup. (Redshift Serverless API Reference, GetCredentials)
func workgroupLogin(ctx context.Context, env exchange.Env, r exchange.Request, session *credential.AWS,
	life *int32) (databaseLogin, error) {
	v, w := r.Grant.Exchange(), r.Warehouse
	out, err := redshiftserverless.New(redshiftserverless.Options{
		Region: session.Region, BaseEndpoint: otherEndpoint(v, "redshift_endpoint"), Credentials: signsAs(session),
		HTTPClient: env.HTTP, Retryer: aws.NopRetryer{},
	}).GetCredentials(ctx, &redshiftserverless.GetCredentialsInput{
		WorkgroupName: &w.Redshift.Workgroup, DbName: &w.Database, DurationSeconds: life,
	})
	if err != nil {
		return databaseLogin{}, err
	}
	return databaseLogin{out.DbUser, out.DbPassword, out.Expiration}, nil
}

// databaseUser matches the users of logins: IAM:NAME, IAMA:NAME for one that
// may have to be made, IAMR:ROLE. They become a key of the profile.
var databaseUser = lazy.MustCompile(`^[A-Za-z0-9_+=,.@:-]+$`)

func redshiftHint(code string, v policy.Values, w credential.Warehouse, session credential.Credential) string {
	in := session.AWS.Region
	partition, account := "aws", "ACCOUNT"
	if parts := strings.Split(session.ID, ":"); len(parts) > 4 { // arn:PARTITION:sts::ACCOUNT:assumed-role/…
		partition, account = parts[1], parts[4]
	}
	role := v.Get("role")
	if second := v.Get("then_assume.role"); second != "" {
		role = second
	}
	if role == "" {
		role = session.ID // a person's own
	}
	resource := func(kind string) string {
		return fmt.Sprintf("arn:%s:redshift:%s:%s:%s:%s", partition, in, account, kind, w.Redshift.Cluster)
	}
	switch code {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		switch {
		case w.Redshift.Workgroup != "":
			return fmt.Sprintf("%s must be allowed redshift-serverless:GetCredentials on the workgroup %q, "+
				"arn:%s:redshift-serverless:%s:%s:workgroup/ID", role, w.Redshift.Workgroup, partition, in, account)
		case w.User == "":
			return fmt.Sprintf("%s must be allowed redshift:GetClusterCredentialsWithIAM on %s/%s", role, resource("dbname"), w.Database)
		}
		hint := fmt.Sprintf("%s must be allowed redshift:GetClusterCredentials on %s/%s and %s/%s", role,
			resource("dbuser"), w.User, resource("dbname"), w.Database)
		if w.Redshift.AutoCreate {
			hint += fmt.Sprintf(", redshift:CreateClusterUser on %s/%s", resource("dbuser"), w.User)
		}
		for _, group := range w.Redshift.Groups {
			hint += fmt.Sprintf(", redshift:JoinGroup on %s/%s", resource("dbgroup"), group)
		}
		return hint
	case "ClusterNotFound", "ClusterNotFoundFault":
		return fmt.Sprintf("account %s has no cluster %q in %s: set cluster_id if the first label of the host is not the "+
			"cluster's name", account, w.Redshift.Cluster, in)
	case "ResourceNotFoundException":
		return fmt.Sprintf("account %s has no workgroup %q in %s: set serverless_work_group if the first label of the "+
			"host is not the workgroup's name", account, w.Redshift.Workgroup, in)
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException":
		return "compare the runner's clock with AWS's"
	}
	return ""
}

// rdsLife is how long RDS takes a token for a login.
const rdsLife = 15 * time.Minute

// rdsLogin signs a token, which is the password of a login at RDS or Aurora.
// AWS hears of it when dbt logs in. (Amazon RDS User Guide, "IAM database
// authentication")
func rdsLogin(ctx context.Context, env exchange.Env, r exchange.Request, session credential.Credential) (credential.Credential, error) {
	w, now := r.Warehouse, env.Now()
	query := url.Values{"Action": {"connect"}, "DBUser": {w.User}, "X-Amz-Expires": {strconv.Itoa(int(rdsLife.Seconds()))}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"https://"+net.JoinHostPort(w.Host, strconv.Itoa(w.Port))+"/?"+query.Encode(), nil)
	if err != nil {
		return credential.Credential{}, fmt.Errorf("sign a token for RDS: invalid host %q", w.Host)
	}
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, sessionKeys(session.AWS), req, emptyPayload, "rds-db",
		r.Grant.Exchange().Get("region"), now)
	if err != nil {
		return credential.Credential{}, errors.New("sign a token for RDS: the signer failed") // its words may hold the request
	}
	expiry := now.Add(rdsLife)
	if session.Expiry.Before(expiry) {
		expiry = session.Expiry // what it has signed expires with it
	}
	return credential.Credential{Kind: credential.DatabaseLogin, ID: session.ID, Serial: session.Serial, Expiry: expiry, User: w.User,
		Password: secret.New(strings.TrimPrefix(signed, "https://"))}, nil
}

// emptyPayload is the SHA-256 of nothing.
const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
