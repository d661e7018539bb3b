package standin_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	rds "github.com/aws/aws-sdk-go-v2/feature/rds/auth"
	"github.com/aws/aws-sdk-go-v2/service/redshift"
	"github.com/aws/aws-sdk-go-v2/service/redshiftserverless"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// warehouses starts an account's Redshift. The role prod may do what the
// permissions say, the role long nothing.
func warehouses(t *testing.T, a account, now func() time.Time) *standin.Redshift {
	t.Helper()
	r, err := standin.StartRedshift(a.sts, standin.RedshiftConfig{
		Region:     "eu-central-1",
		Clusters:   map[string]standin.Cluster{"acme": {Users: []string{"dbt"}}},
		Workgroups: map[string]standin.Workgroup{"marts": {ID: "8a5b"}, "other": {ID: "9c6d"}},
		Now:        now,
		Policies: map[string]string{prodRole: `{"Statement": [
			{"Effect": "Allow", "Action": ["redshift:GetClusterCredentials", "redshift:CreateClusterUser"], "Resource": ["arn:aws:redshift:eu-central-1:123456789012:dbuser:*/dbt*", "arn:aws:redshift:eu-central-1:123456789012:dbname:*/analytics"]},
			{"Effect": "Allow", "Action": "redshift:JoinGroup", "Resource": "arn:aws:redshift:eu-central-1:123456789012:dbgroup:acme/writers"},
			{"Effect": "Allow", "Action": "redshift:GetClusterCredentialsWithIAM", "Resource": "arn:aws:redshift:eu-central-1:123456789012:dbname:acme/analytics"},
			{"Effect": "Allow", "Action": "redshift-serverless:GetCredentials", "Resource": "arn:aws:redshift-serverless:eu-central-1:123456789012:workgroup/8a5b"}]}`},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// session returns a session of a role, for 15 minutes.
func (a account) session(t *testing.T, role string, change func(*sts.AssumeRoleWithWebIdentityInput)) *types.Credentials {
	t.Helper()
	out, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", nil), func(in *sts.AssumeRoleWithWebIdentityInput) {
		in.RoleArn, in.DurationSeconds = &role, aws.Int32(900)
		if change != nil {
			change(in)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Credentials
}

// An answer is what either API says.
type answer struct {
	user, password *string
	expiration     *time.Time
}

// TestRedshift asks with AWS's own clients, one mutation a case.
func TestRedshift(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	r := warehouses(t, a, nil)
	prod, long := a.session(t, prodRole, nil), a.session(t, longRole, nil)
	narrow := a.session(t, prodRole, func(in *sts.AssumeRoleWithWebIdentityInput) {
		in.Policy = aws.String(`{"Statement": {"Effect": "Allow", "Action": "redshift:*", "Resource": "arn:aws:redshift:eu-central-1:123456789012:dbname:*"}}`)
	})
	const session = "arn:aws:sts::123456789012:assumed-role/prod/run-1"
	denied := func(who, action, resource string) string {
		return "403 AccessDenied: User: " + who + " is not authorized to perform: " + action + " on resource: arn:aws:redshift:eu-central-1:123456789012:" + resource + " because no identity-based policy allows the " + action + " action"
	}
	type user = redshift.GetClusterCredentialsInput
	type iam = redshift.GetClusterCredentialsWithIAMInput
	type group = redshiftserverless.GetCredentialsInput
	for _, tt := range []struct {
		name      string
		session   *types.Credentials // prod where nil
		region    string             // eu-central-1 where ""
		user      func(*user)
		iam       func(*iam)
		group     func(*group)
		want, err string
		life      time.Duration
	}{
		{name: "a user", user: func(in *user) {}, want: "IAM:dbt", life: 15 * time.Minute},
		{name: "a user for an hour", user: func(in *user) { in.DurationSeconds = aws.Int32(3600) }, want: "IAM:dbt", life: time.Hour},
		{name: "a user that is made, in a group", user: func(in *user) { in.AutoCreate, in.DbGroups = aws.Bool(true), []string{"writers"} }, want: "IAMA:dbt", life: 15 * time.Minute},
		{name: "the role's user", iam: func(in *iam) {}, want: "IAMR:prod", life: 15 * time.Minute},
		{name: "at a workgroup", group: func(in *group) { in.DurationSeconds = aws.Int32(1800) }, want: "IAMR:prod", life: 30 * time.Minute},

		{name: "another cluster", user: func(in *user) { in.ClusterIdentifier = aws.String("acmes") }, err: "404 ClusterNotFound: Cluster acmes not found."},
		{name: "another database", user: func(in *user) { in.DbName = aws.String("hr") }, err: denied(session, "redshift:GetClusterCredentials", "dbname:acme/hr")},
		{name: "another user", user: func(in *user) { in.DbUser = aws.String("admin") }, err: denied(session, "redshift:GetClusterCredentials", "dbuser:acme/admin")},
		{name: "another group", user: func(in *user) { in.DbGroups = []string{"admins"} }, err: denied(session, "redshift:JoinGroup", "dbgroup:acme/admins")},
		{name: "another role", session: long, user: func(in *user) {}, err: denied("arn:aws:sts::123456789012:assumed-role/long/run-1", "redshift:GetClusterCredentials", "dbname:acme/analytics")},
		{name: "a session that may less", session: narrow, user: func(in *user) {}, err: denied(session, "redshift:GetClusterCredentials", "dbuser:acme/dbt")},
		{name: "another region", region: "eu-west-1", user: func(in *user) {}, err: "403 SignatureDoesNotMatch: Credential should be scoped to a valid region."},
		{name: "too short", user: func(in *user) { in.DurationSeconds = aws.Int32(899) }, err: "400 InvalidParameterValue: DurationSeconds is 899, must be between 900 and 3600"},
		{name: "too long", iam: func(in *iam) { in.DurationSeconds = aws.Int32(3601) }, err: "400 InvalidParameterValue: DurationSeconds is 3601, must be between 900 and 3600"},
		{name: "a user with a prefix", user: func(in *user) { in.DbUser = aws.String("IAM:dbt") }, err: "400 InvalidParameterValue: Invalid DbUser"},
		{name: "a group in capitals", user: func(in *user) { in.DbGroups = []string{"Writers"} }, err: "400 InvalidParameterValue: Invalid DbGroup"},
		{name: "a database with a slash", iam: func(in *iam) { in.DbName = aws.String("analytics/x") }, err: "400 InvalidParameterValue: Invalid DbName"},
		{name: "the role's user at another database", iam: func(in *iam) { in.DbName = aws.String("hr") }, err: denied(session, "redshift:GetClusterCredentialsWithIAM", "dbname:acme/hr")},

		{name: "an unknown workgroup", group: func(in *group) { in.WorkgroupName = aws.String("mart") }, err: "400 ResourceNotFoundException: The workgroup mart could not be found."},
		{name: "a workgroup that the role may not use", group: func(in *group) { in.WorkgroupName = aws.String("other") },
			err: "403 AccessDeniedException: User: " + session + " is not authorized to perform: redshift-serverless:GetCredentials on resource: arn:aws:redshift-serverless:eu-central-1:123456789012:workgroup/9c6d because no identity-based policy allows the redshift-serverless:GetCredentials action"},
		{name: "at a workgroup, another role", session: long, group: func(in *group) {},
			err: "403 AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/long/run-1 is not authorized to perform: redshift-serverless:GetCredentials on resource: arn:aws:redshift-serverless:eu-central-1:123456789012:workgroup/8a5b because no identity-based policy allows the redshift-serverless:GetCredentials action"},
		{name: "at a workgroup, too long", group: func(in *group) { in.DurationSeconds = aws.Int32(3601) }, err: "400 ValidationException: DurationSeconds is 3601, must be between 900 and 3600"},
		{name: "at a workgroup, another region", region: "eu-west-1", group: func(in *group) {}, err: "403 SignatureDoesNotMatch: Credential should be scoped to a valid region."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.session == nil {
				tt.session = prod
			}
			if tt.region == "" {
				tt.region = "eu-central-1"
			}
			clusters := redshift.New(redshift.Options{Region: tt.region, BaseEndpoint: aws.String(r.URL()), Credentials: fixed(tt.session), Retryer: aws.NopRetryer{}})
			var got answer
			var err error
			switch {
			case tt.user != nil:
				in := &user{ClusterIdentifier: aws.String("acme"), DbUser: aws.String("dbt"), DbName: aws.String("analytics")}
				tt.user(in)
				var out *redshift.GetClusterCredentialsOutput
				if out, err = clusters.GetClusterCredentials(t.Context(), in); err == nil {
					got = answer{out.DbUser, out.DbPassword, out.Expiration}
				}
			case tt.iam != nil:
				in := &iam{ClusterIdentifier: aws.String("acme"), DbName: aws.String("analytics")}
				tt.iam(in)
				var out *redshift.GetClusterCredentialsWithIAMOutput
				if out, err = clusters.GetClusterCredentialsWithIAM(t.Context(), in); err == nil {
					got = answer{out.DbUser, out.DbPassword, out.Expiration}
				}
			default:
				in := &group{WorkgroupName: aws.String("marts"), DbName: aws.String("analytics")}
				tt.group(in)
				groups := redshiftserverless.New(redshiftserverless.Options{Region: tt.region, BaseEndpoint: aws.String(r.URL()), Credentials: fixed(tt.session), Retryer: aws.NopRetryer{}})
				var out *redshiftserverless.GetCredentialsOutput
				if out, err = groups.GetCredentials(t.Context(), in); err == nil {
					got = answer{out.DbUser, out.DbPassword, out.Expiration}
				}
			}
			if err != nil || tt.err != "" {
				if text(err) != tt.err {
					t.Errorf("got  %s\nwant %s", text(err), tt.err)
				}
				return
			}
			if *got.user != tt.want {
				t.Errorf("the user is %q, want %q", *got.user, tt.want)
			}
			if life := time.Until(*got.expiration); life > tt.life || life < tt.life-5*time.Second {
				t.Errorf("it lives %s, want %s", life, tt.life)
			}
		})
	}
}

// TestRedshiftCheck: what a database lets in, one mutation a case.
func TestRedshiftCheck(t *testing.T) {
	t.Parallel()
	clock := newClock()
	a := newAccount(t, clock.now)
	r := warehouses(t, a, clock.now)
	client := redshift.New(redshift.Options{Region: "eu-central-1", BaseEndpoint: aws.String(r.URL()), Credentials: fixed(a.session(t, prodRole, nil)), Retryer: aws.NopRetryer{}})
	login := func(user string) string {
		out, err := client.GetClusterCredentials(t.Context(), &redshift.GetClusterCredentialsInput{ClusterIdentifier: aws.String("acme"), DbUser: &user, DbName: aws.String("analytics")})
		if err != nil {
			t.Fatal(err)
		}
		return *out.DbPassword
	}
	password, nobody := login("dbt"), login("dbt_gone")
	check := func(name, place, user, database, password, want string) {
		t.Helper()
		got := ""
		if err := r.Check(place, user, database, func(p string) bool { return p == password }); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: error is %q, want %q", name, got, want)
		}
	}
	check("good", "acme", "IAM:dbt", "analytics", password, "")
	check("another place", "marts", "IAM:dbt", "analytics", password, `password authentication failed for user "IAM:dbt"`)
	check("another user", "acme", "dbt", "analytics", password, `password authentication failed for user "dbt"`)
	check("another database", "acme", "IAM:dbt", "hr", password, `password authentication failed for user "IAM:dbt"`)
	check("another password", "acme", "IAM:dbt", "analytics", password+"x", `password authentication failed for user "IAM:dbt"`)
	check("a user that the database has not", "acme", "IAM:dbt_gone", "analytics", nobody, `password authentication failed for user "IAM:dbt_gone"`)
	clock.forward(15 * time.Minute)
	check("expired", "acme", "IAM:dbt", "analytics", password, `password authentication failed for user "IAM:dbt"`)
}

// TestAuthenticateRDS: a token that AWS's own library has signed, and one
// mutation of it a case.
func TestAuthenticateRDS(t *testing.T) {
	t.Parallel()
	clock := newClock()
	a := newAccount(t, clock.now)
	const address, user = "orders.abc.eu-central-1.rds.amazonaws.com:5432", "dbt"
	session := a.session(t, prodRole, nil)
	token, err := rds.BuildAuthToken(t.Context(), address, "eu-central-1", user, fixed(session))
	if err != nil {
		t.Fatal(err)
	}
	stolen := fixed(session)
	other, err := rds.BuildAuthToken(t.Context(), address, "eu-central-1", user, aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		c, err := stolen.Retrieve(ctx)
		c.SecretAccessKey = "another"
		return c, err
	}))
	if err != nil {
		t.Fatal(err)
	}
	const refused = `AccessDenied: PAM authentication failed for user "`
	for _, tt := range []struct{ name, token, address, user, region, err string }{
		{"good", token, address, user, "eu-central-1", ""},
		{"another database", token, "hr.abc.eu-central-1.rds.amazonaws.com:5432", user, "eu-central-1", refused + `dbt"`},
		{"another port", token, "orders.abc.eu-central-1.rds.amazonaws.com:5433", user, "eu-central-1", refused + `dbt"`},
		{"another user", token, address, "admin", "eu-central-1", refused + `admin"`},
		{"a database of another region", token, address, user, "eu-west-1", refused + `dbt"`},
		{"a user that was not signed for", strings.Replace(token, "DBUser=dbt", "DBUser=admin", 1), address, "admin", "eu-central-1", refused + `admin"`},
		{"another action", strings.Replace(token, "Action=connect", "Action=drop", 1), address, user, "eu-central-1", refused + `dbt"`},
		{"a longer life", strings.Replace(token, "X-Amz-Expires=900", "X-Amz-Expires=86400", 1), address, user, "eu-central-1", refused + `dbt"`},
		{"another parameter", token + "&DBUser=admin", address, user, "eu-central-1", refused + `dbt"`},
		{"another secret", other, address, user, "eu-central-1", refused + `dbt"`},
		{"no token", "hunter2", address, user, "eu-central-1", refused + `dbt"`},
	} {
		got := ""
		if _, err := a.sts.AuthenticateRDS(tt.token, tt.address, tt.user, tt.region); err != nil {
			got = err.Error()
		}
		if got != tt.err {
			t.Errorf("%s: error is %q, want %q", tt.name, got, tt.err)
		}
	}
	clock.forward(15 * time.Minute)
	if _, err := a.sts.AuthenticateRDS(token, address, user, "eu-central-1"); err == nil {
		t.Error("a token is accepted after 15 minutes")
	}
}
