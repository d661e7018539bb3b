package runner

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// Ceiling returns when the runner's request token expires; from then on it gets
// no ID tokens. ok is false if the token does not say. The token is read
// unverified: to forge it would affect only one's own run.
func (r *Runner) Ceiling() (end time.Time, ok bool) {
	parts := strings.Split(r.env.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN"), ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	rawPayload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, false
	}
	var raw struct {
		Exp float64 `json:"exp"` // seconds, not always whole (RFC 7519 §2)
	}
	if json.Unmarshal(rawPayload, &raw) != nil || raw.Exp <= 0 || raw.Exp > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(raw.Exp), 0), true
}
