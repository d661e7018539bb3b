package policy

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A vendor accepts tokens of an audience. Whoever else got such a token could
// use it there, so it goes to the vendor's own hosts only.
type vendor struct {
	name     string
	audience *lazy.Regexp
	hosts    *lazy.Regexp
	login    bool // the token itself is the login at the warehouse
}

// vendors are the audiences that have an owner, sovereign clouds included.
var vendors = []vendor{{
	name:     "AWS",
	audience: lazy.MustCompile(`^sts\.amazonaws\.com(?:\.cn)?$`),
	// Only STS and Identity Center's OIDC service: under amazonaws.com there
	// are hosts of customers (execute-api, elb, vpce-svc). A region has a
	// hyphen, a bucket's "s3" has none.
	hosts: lazy.MustCompile(`^(?:vpce-[a-z0-9-]+\.)?(?:sts|oidc)(?:-fips)?(?:\.[a-z]+(?:-[a-z]+)+-[0-9]+)?(?:\.vpce)?\.` +
		`(?:amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|api\.aws|api\.amazonwebservices\.com\.cn|c2s\.ic\.gov|` +
		`sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`),
}, {
	name:     "Google Cloud",
	audience: lazy.MustCompile(`^(?:https:)?//iam\.(?:googleapis\.com|s3nsapis\.fr|apis-berlin-build0\.goog)/`),
	hosts:    lazy.MustCompile(`^(?:[a-z0-9-]+\.)*(?:googleapis\.com|s3nsapis\.fr|apis-berlin-build0\.goog)$`),
}, {
	name:     "Snowflake",
	audience: lazy.MustCompile(`(?:^|[/.])snowflakecomputing\.(?:com|cn)(?:$|/)`),
	hosts:    lazy.MustCompile(`^(?:[a-z0-9_-]+\.)*snowflakecomputing\.(?:com|cn)$`),
	login:    true,
}, {
	name:     "Microsoft Entra ID",
	audience: lazy.MustCompile(`^api://AzureADTokenExchange(?:China|USGov)?$`),
	hosts: lazy.MustCompile(`^(?:[a-z0-9-]+\.)*login\.(?:microsoftonline\.(?:com|us)|partner\.microsoftonline\.cn|` +
		`chinacloudapi\.cn|microsoft\.com)$`),
}, {
	name:     "Databricks",
	audience: databricksAudience,
	hosts:    lazy.MustCompile(`^` + databricksHosts + `$`),
}}

// databricksAudience matches a token endpoint; an account's id has no form of its own.
var databricksAudience = lazy.MustCompile(`^https://` + databricksHosts + `/oidc/`).
	Where(func(s string) bool { return strings.Contains(s, "/oidc/") })

// databricksHosts are workspaces and account consoles in each cloud.
// (databricks-sdk-py, environments.py)
const databricksHosts = `(?:[a-z0-9-]+\.)+(?:(?:cloud|gcp|dev)\.databricks\.com|cloud\.databricks\.(?:us|mil)|` +
	`azuredatabricks\.net|databricks\.azure\.(?:us|cn))`

// CheckAudience returns an error when a token with the audience must not be
// sent to the endpoint: the audience is a vendor's, and the host is neither
// the vendor's nor loopback.
func CheckAudience(audience, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return errors.New("not a URL")
	}
	return CheckHost(audience, u.Hostname())
}

// IsLoopback reports whether a host can only be this machine.
func IsLoopback(host string) bool { return web.IsLoopback(host) }

// CheckHost is CheckAudience for a host; none is right.
func CheckHost(audience, host string) error {
	if host == "" || web.IsLoopback(host) {
		return nil
	}
	for _, v := range vendors {
		if v.audience.MatchString(audience) && !v.hosts.MatchString(host) {
			return fmt.Errorf("host %q is not one of %s, whose audience %q the token has: give an audience of its own", host, v.name, audience)
		}
	}
	return nil
}

// CheckLogin returns an error when a token with the audience must not be the
// login at a warehouse: the audience is that of a vendor who exchanges tokens.
func CheckLogin(audience string) error {
	for _, v := range vendors {
		if v.audience.MatchString(audience) && !v.login {
			return fmt.Errorf("%q is the audience of %s: the warehouse that got such a token could use it there", audience, v.name)
		}
	}
	return nil
}
