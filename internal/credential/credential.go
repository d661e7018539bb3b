// Package credential is what an exchange gives: a short-lived secret, when it expires, and how an audit record names it.
package credential

import (
	"cmp"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A Kind is what a credential is, and which of its secrets are set.
type Kind string

// The kinds. Audit records and outputs have them as they are.
const (
	IDToken           Kind = "id_token"            // Token
	AWSSession        Kind = "aws_session"         // AWS
	GoogleAccessToken Kind = "google_access_token" // Token
	AccessToken       Kind = "access_token"        // Token: any other bearer
	DatabaseLogin     Kind = "database_login"      // User and Password
	KeyPair           Kind = "key_pair"            // User and PrivateKey
	ServicePrincipal  Kind = "service_principal"   // User is its client id, Password its client secret
)

// A Credential is what a provider gave for an ID token. Which of the secrets
// are set depends on Kind.
type Credential struct {
	Kind   Kind
	ID     string    // not secret: the assumed role's ARN, the service account, the subject
	Expiry time.Time // when a new login with it fails; never zero
	// Serial is how the provider's own log names it, not secret: AWS's access
	// key id, the uti of a token of Entra ID; "" where there is no such name.
	Serial string

	Token      secret.Value // a bearer: ID token, access token
	User       string       // not secret: whom the database knows
	Password   secret.Value
	PrivateKey secret.Value // PKCS#8 DER in base64, one line
	AWS        *AWS

	// Static is set if the secret is the same for all who may read it, and
	// nothing ends it with the run; Expiry is then Never, or when it is
	// rotated.
	Static bool
	Lease  *Lease // what ends the credential before its expiry; nil for nothing
}

// Never is the expiry of what has none: RFC 5280 §4.1.2.5 writes it so.
func Never() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// A Lease is the login at a Vault or OpenBao server under which a credential
// was issued, and the lease of the secret that it is. The end of either is the
// credential's.
type Lease struct {
	Provider  string // who lent it
	Address   string
	Namespace string
	CACert    string // PEM; "" for the system's roots
	// ClientCert and ClientKey are paths of files in PEM: what we show to the
	// server; "" for nothing.
	ClientCert, ClientKey string
	Token                 secret.Value

	ID     string // of the secret's lease, as the server has it; "" of a secret without one
	Secret Term   // the lease's
	Login  Term   // the token's
}

// A Term is how long something is lent for.
type Term struct {
	Expiry    time.Time // zero for no end
	Renewable bool
	Limit     time.Time // what the server renews it to at most; zero where it has not said
}

// Last returns when the term ends however often it is renewed, zero where
// nothing is known of such an end.
func (t Term) Last() time.Time {
	if t.Renewable {
		return t.Limit
	}
	return t.Expiry
}

// Expiry returns when the lease ends, or the login above it.
func (l Lease) Expiry() time.Time { return earlier(l.Secret.Expiry, l.Login.Expiry) }

// Last returns when no renewal keeps the lease any more, zero where nothing is
// known of that.
func (l Lease) Last() time.Time { return earlier(l.Secret.Last(), l.Login.Last()) }

// earlier returns the earlier of two times; zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// AWS is a temporary session of the AWS security token service.
type AWS struct {
	AccessKeyID     secret.Value
	SecretAccessKey secret.Value
	SessionToken    secret.Value
	Region          string
}

// A Warehouse is what an exchange must know of the place that its credential
// is for. The adapter reads it from the dbt block, and leaves out what the
// block does not say. The zero Warehouse is that of a credentials-only target.
type Warehouse struct {
	Name     string // what errors call it: type "postgres"
	Host     string // without a port
	Port     int
	Database string
	User     string
	Role     string // that dbt takes there
	Bearer   bool   // it takes a token where others of its type take a user and a password
	Redshift Redshift
	Asks     Asks
}

// Asks is what a warehouse takes of one provider.
type Asks struct {
	Login Login // the warehouse's own, which the provider's credential is exchanged for
	// Fields are the kinds of credential that the fields of a secret may be,
	// the first that fits; nil for any.
	Fields []Kind
	// Resource is the one of Entra ID's that a token is for unless the policy
	// says, as the public cloud has it; "" for none.
	Resource string
	// Elsewhere is set where the warehouse is not Microsoft's: a token for one
	// of its services must not go there.
	Elsewhere bool
	Scope     string // all that a token of a Google service account is for; "" for cloud-platform
	Workspace bool   // Host is a workspace of Databricks, which gives tokens
}

// String names the place for errors.
func (w Warehouse) String() string { return cmp.Or(w.Name, "a target without dbt") }

// DatabricksResource is Azure Databricks in Entra ID, in every cloud.
// (databricks-sdk-py, environments.py)
const DatabricksResource = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"

// A Login is one that a warehouse, or the service that it is part of, gives.
type Login string

// The logins. A provider says which lifetimes each has.
const (
	Usual         Login = ""                 // none: the provider's own credential is the login
	RDSLogin      Login = "rds"              // a token of RDS in the place of a password
	RedshiftLogin Login = "redshift"         // a user and a password of Redshift's API
	CloudSQLLogin Login = "cloud_sql"        // a service account's token in the place of a password
	LakebaseLogin Login = "lakebase"         // a token of Lakebase in the place of a password
	TokenLogin    Login = "exchanges_itself" // the ID token, which the warehouse exchanges
	RoleLogin     Login = "role"             // the session of an AWS role that a person has
)

// Redshift is what AWS must be told for a login at Redshift.
type Redshift struct {
	Cluster    string // the identifier of a provisioned cluster
	Workgroup  string // the name of a serverless workgroup; of the two one is set
	AutoCreate bool   // make the user where there is none
	Groups     []string
}

// Secrets returns every secret that c holds, for masking.
func (c Credential) Secrets() []secret.Value {
	all := []secret.Value{c.Token, c.Password, c.PrivateKey}
	if c.AWS != nil {
		all = append(all, c.AWS.AccessKeyID, c.AWS.SecretAccessKey, c.AWS.SessionToken)
	}
	if c.Lease != nil {
		all = append(all, c.Lease.Token)
	}
	held := all[:0]
	for _, v := range all {
		if !v.IsZero() {
			held = append(held, v)
		}
	}
	return held
}
