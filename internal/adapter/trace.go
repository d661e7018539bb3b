package adapter

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A targetTag names the target in the warehouse's own log. It is the same in
// every run: a change in a connection's key would cost dbt its partial parsing.
type targetTag struct {
	key     string // of the output; where the block has it, it is the user's
	longest int    // what the log keeps of it, in characters; 0 for all
}

// targetTags are by dbt type. Redshift's older log cuts a query group. (Amazon
// Redshift: STL_QUERY, label)
var targetTags = map[string]targetTag{
	"snowflake": {key: "query_tag"},
	"redshift":  {key: "query_group", longest: 30},
	"postgres":  {key: "application_name"},
}

// tagKey is the tag's key, nil where the block has one of its own. A name that
// the log would cut loses its end to a hash, so that two targets stay two.
func tagKey(in Input) []Key {
	t := targetTags[in.Type]
	if value(in.Block, t.key) != nil {
		return nil
	}
	tag := text("oidc-dbt target=" + in.Facts.Target())
	if t.longest > 0 && len(tag.Value) > t.longest {
		sum := sha256.Sum256([]byte(tag.Value))
		tag.Value = tag.Value[:t.longest-9] + "~" + hex.EncodeToString(sum[:4])
	}
	return []Key{{t.key, tag}}
}

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
		if !c.Static {
			add("lease", c.ID)
		}
	default:
		add("principal", principal(in))
		add("uti", c.Serial)
	}
	add("user", cmp.Or(c.User, scalar(in.Block, "user"), scalar(in.Block, "username")))
	if t, ok := targetTags[in.Type]; ok {
		own := scalar(in.Block, t.key)
		for _, key := range tagKey(in) {
			own = textOf(key.Value)
		}
		add(t.key, own)
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
