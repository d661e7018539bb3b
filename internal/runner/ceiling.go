package runner

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// Ceiling returns when the runner's request token ends, after which no ID
// token can be had. ok is false where the token does not say. It is read
// unverified: whoever forges it only misleads himself.
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
