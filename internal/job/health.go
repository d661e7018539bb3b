package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// probeTimeout bounds a probe: the reply itself waits at most 0.8 s for a
// renewal that is under way.
const probeTimeout = 2 * time.Second

// Health asks the Serve of this machine, or of this pod, whose health port is
// port, and returns when its credential expires. There is no secret on either
// side: a reply says yes or no, and when. The error is of class Internal.
func Health(ctx context.Context, env Env, port int) (expiry time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		return expiry, err
	}
	resp, err := env.Client().Do(req)
	if err != nil {
		return expiry, fault.New(fault.Internal, fmt.Errorf("ask %s for its health: %s", address, web.Cause(err).Error()), // of no other class
			fmt.Sprintf("start `oidc-dbt serve --health-port %d` first, in the same pod or on the same machine", port))
	}
	defer resp.Body.Close()
	var reply struct {
		Status  string    `json:"status"`
		Reason  string    `json:"reason"`
		Expires time.Time `json:"expires_at"`
	}
	switch err := json.NewDecoder(resp.Body).Decode(&reply); {
	case err == nil && resp.StatusCode == http.StatusOK && reply.Status == "ok" && reply.Expires.After(env.Now()):
		return reply.Expires, nil
	case err == nil && resp.StatusCode == http.StatusOK && reply.Status == "ok" && !reply.Expires.IsZero():
		return expiry, fault.New(fault.Internal,
			fmt.Errorf("there is no valid credential: it expired at %s", reply.Expires.UTC().Format(time.RFC3339)), "")
	case err == nil && resp.StatusCode == http.StatusServiceUnavailable && reply.Reason != "":
		return expiry, fault.New(fault.Internal, errors.New("there is no valid credential: "+reply.Reason), "")
	}
	return expiry, fault.New(fault.Internal, fmt.Errorf("ask %s for its health: it is not the health port of `oidc-dbt serve`", address), "")
}
