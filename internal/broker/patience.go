package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// How long a login or a request waits for a credential if the old one has
// expired: nearly as long as dbt's client waits for the reply. So an outage that
// ends costs nothing, and the client gets the reason for a longer one before it
// gives up with "timed out".
const (
	// snowflake-connector-python: 60 s without a reply end a request, 120 s a
	// login (network.py, auth/by_plugin.py); the login itself is to come.
	snowflakePatience = 45 * time.Second
	// trino-python-client: 30 s (constants.py); DuckDB's http_timeout is as long.
	proxyPatience = 25 * time.Second
	// dbt-clickhouse: send_receive_timeout is 300 s (credentials.py); the query
	// itself is to come.
	clickHousePatience = 2 * time.Minute
	// google-auth: 120 s (transport/requests.py).
	googlePatience = 100 * time.Second
	// databricks-sdk: _metadata_service_timeout is 10 s (credentials_provider.py).
	databricksPatience = 9 * time.Second
	// dbt-fabric: 30 s (fabric_token_provider.py).
	fabricPatience = 25 * time.Second
	// azure-core: read_timeout is 300 s (configuration.py); its own retries come
	// on top, so that less than half of it is enough.
	azurePatience = 2 * time.Minute
	// dbt-redshift waits without an end (auth_providers.py).
	redshiftPatience = 2 * time.Minute
	// aws-sdk-cpp hangs up after a second and botocore after two; both ask again,
	// and botocore shows what the reply says.
	awsPatience = 900 * time.Millisecond
	// DuckDB asks twice to open a file.
	s3Patience = 4 * time.Second
)

// A hurry divides the broker's waiting times, for tests. Zero means one.
type hurry int

func (h hurry) of(d time.Duration) time.Duration { return d / time.Duration(max(h, 1)) }

// current returns a valid credential, and waits for it.
func (b *Broker) current(ctx context.Context, patience time.Duration) (credential.Credential, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, notThere(patience))
	defer cancel()
	return b.config.Current(ctx)
}

func notThere(d time.Duration) error { return fmt.Errorf("not available after %s", d) }

// renewed replaces c, which the warehouse has refused; false if there is no other
// and the client should get the refusal.
func (b *Broker) renewed(ctx context.Context, c credential.Credential) (credential.Credential, bool) {
	if b.config.Renew == nil {
		return c, false
	}
	next, err := b.config.Renew(ctx, c)
	return next, err == nil
}
