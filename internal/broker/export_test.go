package broker

import (
	"bytes"
	"io"
	"net/http"
	"net/url"

	"github.com/oidc-dbt/oidc-dbt/internal/guard"
)

// Hurry has a broker wait so many times shorter than it would for strangers,
// for a place that becomes free, and for Snowflake.
func (c *Config) Hurry(times int) { c.hurry = hurry(times) }

// CheckSnowflake has a guard decide on the body of a query.
func CheckSnowflake(g *guard.Guard, body []byte) error {
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: snowflakeQuery}, Body: io.NopCloser(bytes.NewReader(body))}
	return checkSnowflake(g, "", r)
}
