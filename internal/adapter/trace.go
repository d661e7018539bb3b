package adapter

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// targetTags are the keys of a profile's output that name the target in the
// warehouse's own log, by dbt type.
var targetTags = map[string]string{"snowflake": "query_tag", "redshift": "query_group", "postgres": "application_name"}

// A runTag names the run in the warehouse's own log.
type runTag struct {
	key    string // of the output; where the block has it, it is the user's
	name   string // in the trace
	prefix string
}

var runTags = map[string]runTag{
	"databricks": {key: "query_tags", name: "run_tag"},
	"trino":      {key: "client_tags", name: "client_tag", prefix: "run="},
}

// Trace returns by which names the logs of the warehouse and of the provider
// know what is done with the credential; in.Type is "" for a target without
// dbt. The names are those of the audit record's `warehouse_key`.
func Trace(in Input) map[string]string {
	trace := map[string]string{}
	add := func(name, value string) {
		if value != "" && !policy.IsJinja(value) {
			trace[name] = value
		}
	}
	c := in.Credential
	switch {
	case strings.HasPrefix(c.ID, "arn:"):
		add("session", c.ID)
		add("access_key_id", c.Serial)
	case c.Lease != nil:
		add("lease", c.ID)
	default:
		add("principal", principal(in))
		add("uti", c.Serial)
	}
	add("user", cmp.Or(c.User, scalar(in.Block, "user"), scalar(in.Block, "username")))
	if key := targetTags[in.Type]; key != "" {
		own := tag(in)
		if in.Type == "redshift" {
			own = shortTag(in)
		}
		if value(in.Block, key) != nil {
			own = value(in.Block, key)
		}
		add(key, textOf(own))
	}
	if t, ok := runTags[in.Type]; ok && value(in.Block, t.key) == nil && runID(in) != "" {
		add(t.name, t.prefix+runID(in))
	}
	return trace
}

// principal is whom the warehouse sees. Google's log has the subject in the
// pool, which is the token's by the usual mapping.
func principal(in Input) string {
	c := in.Credential
	pool, _, found := strings.Cut(c.ID, "/providers/")
	if c.Kind != credential.GoogleAccessToken || !found {
		return c.ID
	}
	return "principal://iam.googleapis.com/" + pool + "/subject/" + in.Facts.Claim("sub")
}

// maxShort is what Redshift's older log keeps of a query group, in characters.
// (Amazon Redshift: STL_QUERY, label)
const maxShort = 30

// shortTag is tag where the log cuts it: a long name loses its end to a hash,
// so that two targets stay two.
func shortTag(in Input) *yaml.Node {
	t := tag(in)
	if len(t.Value) > maxShort {
		sum := sha256.Sum256([]byte(t.Value))
		t.Value = t.Value[:maxShort-9] + "~" + hex.EncodeToString(sum[:4])
	}
	return t
}
