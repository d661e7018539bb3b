package broker

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// databricksMetadata is Databricks' metadata service, which its SDKs ask for
// the token of a workspace. They send no secret of their own, so the secret is a
// segment of the path. (databricks-sdk-py 0.117,
// credentials_provider.py, MetadataServiceTokenSource)
func databricksMetadata(b *Broker) (service, error) {
	upstream := b.config.Route.Upstream
	workspace := net.JoinHostPort(strings.ToLower(upstream.Host), strconv.Itoa(upstream.Port))
	return service{secretPath: true, handler: b.answer(dialect{
		shown: func(r *http.Request) string {
			segment, ok := strings.CutSuffix(r.URL.Path, tokenPath)
			if !ok {
				return ""
			}
			return strings.TrimPrefix(segment, "/")
		},
		unknown: "the path does not belong to this run",
		check: func(r *http.Request) (int, string) {
			switch {
			case r.Header.Get("X-Databricks-Metadata-Version") != "1":
				return http.StatusBadRequest, "want X-Databricks-Metadata-Version 1"
			case workspaceOf(r.Header.Get("X-Databricks-Host")) != workspace:
				return http.StatusForbidden, "the token is for another X-Databricks-Host"
			}
			return 0, ""
		},
		reply: func(_ *http.Request, c credential.Credential) any {
			return map[string]any{"access_token": c.Token.Reveal(), "token_type": "Bearer", "expires_on": c.Expiry.Unix()}
		},
		refuse:   func(_ int, words string) any { return map[string]any{"error": words} },
		patience: databricksPatience,
	})}, nil
}

// workspaceOf returns host and port of the workspace that a client names, by a
// URL or only a host; "" for anything else.
func workspaceOf(host string) string {
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), strconv.Itoa(web.HTTPSPort)))
}
