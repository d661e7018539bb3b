package adapter

import (
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// tokenVariable is what profiles read a bearer from. dbt scrubs the values of
// DBT_ENV_SECRET_ variables from its logs and keeps them out of its artifacts.
const tokenVariable = "DBT_ENV_SECRET_OIDC_TOKEN"

// passwordVariable is what profiles read a password from.
const passwordVariable = "DBT_ENV_SECRET_OIDC_PASSWORD"

// privateKeyVariable is what profiles read a private key from.
const privateKeyVariable = "DBT_ENV_SECRET_OIDC_PRIVATE_KEY"

// Held returns a credential of what a profile's variables hold.
func Held(vars []Variable) (c credential.Credential) {
	var session credential.AWS
	for _, v := range vars {
		switch v.Name {
		case tokenVariable, "SNOWFLAKE_TOKEN":
			c.Token = v.Value
		case passwordVariable:
			c.Password = v.Value
		case privateKeyVariable, "SNOWFLAKE_PRIVATE_KEY":
			c.PrivateKey = v.Value
		case "AWS_ACCESS_KEY_ID":
			session.AccessKeyID = v.Value
		case "AWS_SECRET_ACCESS_KEY":
			session.SecretAccessKey = v.Value
		case "AWS_SESSION_TOKEN":
			session.SessionToken = v.Value
		}
	}
	c.AWS = &session
	return c
}

// Environment returns the variables by which a cloud's own tools find the
// credential, or where a broker serves it: all that a credentials-only target
// has.
func Environment(g Facts, c credential.Credential, served route.Address) []Variable {
	return tools[g.Provider()].render(Input{Facts: g, Credential: c, Route: served}).Env
}

// inEnvironment is for tools that read the credential, or the way to it.
func inEnvironment(in Input) Output {
	return Output{Env: variablesOf(in.Credential, in.Route)}
}

// forDatabricksTools is for the SDKs and the command of Databricks.
func forDatabricksTools(in Input) Output {
	if in.Route == (route.Address{}) {
		return inEnvironment(in)
	}
	return Output{Env: append(databricksMetadata(in.Route), Variable{"DATABRICKS_HOST", secret.New(in.Facts.Exchange().Get("host")), false})}
}

// forAzureTools is for Azure's SDKs and command.
func forAzureTools(in Input) Output {
	if in.Route == (route.Address{}) {
		return inEnvironment(in)
	}
	return Output{Env: federatedTokenFile(in.Facts, in.Route)}
}

// variablesOf are those in which a cloud's tools look for a credential of a
// kind, or ours where none does.
func variablesOf(c credential.Credential, served route.Address) []Variable {
	switch c.Kind {
	case credential.AWSSession:
		return awsEnvironment(*c.AWS, served)
	case credential.GoogleAccessToken:
		if served.File != "" {
			return googleEnvironment(served)
		}
		return []Variable{{"CLOUDSDK_AUTH_ACCESS_TOKEN", c.Token, true}} // gcloud, gsutil
	case credential.ServicePrincipal: // Azure's SDKs; the tenant is the user's to say
		return []Variable{{"AZURE_CLIENT_ID", secret.New(c.User), false}, {"AZURE_CLIENT_SECRET", c.Password, true}}
	case credential.DatabaseLogin:
		return []Variable{{"OIDC_DBT_USER", secret.New(c.User), false}, {passwordVariable, c.Password, true}}
	case credential.KeyPair:
		return []Variable{{"OIDC_DBT_USER", secret.New(c.User), false}, {privateKeyVariable, c.PrivateKey, true}}
	case credential.AccessToken:
		return []Variable{{tokenVariable, c.Token, true}} // no cloud's own tool reads a bearer from a variable
	}
	return nil
}

// googleEnvironment leads to the broker: Google's client libraries by the
// first, gcloud by the second, which reads no other.
func googleEnvironment(served route.Address) []Variable {
	file := secret.New(served.File)
	return []Variable{{"GOOGLE_APPLICATION_CREDENTIALS", file, false}, {"CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", file, false}}
}

// awsEnvironment is the session in AWS's own variables or, where a broker
// serves it, the way there: then no key is in the environment, since every SDK
// would prefer it. The metadata service of the machine is switched off, so
// that its identity never takes the place of one that cannot be had.
func awsEnvironment(session credential.AWS, served route.Address) []Variable {
	region := []Variable{
		{"AWS_REGION", secret.New(session.Region), false},
		{"AWS_DEFAULT_REGION", secret.New(session.Region), false},
	}
	if served.Host != "" {
		return append([]Variable{
			{"AWS_CONTAINER_CREDENTIALS_FULL_URI",
				secret.New(fmt.Sprintf("http://%s:%d%s", served.Host, served.Port, route.AWSContainerPath)), false},
			{"AWS_CONTAINER_AUTHORIZATION_TOKEN", served.Secret, true},
			{"AWS_EC2_METADATA_DISABLED", secret.New("true"), false},
		}, region...)
	}
	return append([]Variable{
		{"AWS_ACCESS_KEY_ID", session.AccessKeyID, true},
		{"AWS_SECRET_ACCESS_KEY", session.SecretAccessKey, true},
		{"AWS_SESSION_TOKEN", session.SessionToken, true},
	}, region...)
}
