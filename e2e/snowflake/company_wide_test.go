//go:build e2e && wide

package snowflake

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/statement"
)

// TestGuardedCompany: a large project is built twice, with nothing denied.
func TestGuardedCompany(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	s, port := start(t, issuer, nil)
	s.next = soon(s.next)
	g := guarded(t, issuer, port, guard.Build, statement.Grant)
	g.ExpectCompanyBuilt(t, setup.NewCompany(t, "snowflake", setup.Models(t, 36),
		strings.Replace(block(g.Address().Port), "user: DBT_PROD", "user: DBT_PROD, authenticator: jwt, token: "+g.Address().Secret.Reveal(), 1)))
}

// soon has statements that fakesnow cannot do fail at once: the connector would
// try them again and again.
func soon(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reply := httptest.NewRecorder()
		next.ServeHTTP(reply, r)
		if reply.Code == http.StatusInternalServerError {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "code": "001003", "message": "fakesnow cannot do this", "data": map[string]any{"sqlState": "42601"}})
			return
		}
		maps.Copy(w.Header(), reply.Header())
		w.WriteHeader(reply.Code)
		_, _ = w.Write(reply.Body.Bytes())
	})
}

// TestGuardPythonModel: dbt sends a Python model as a procedure, which needs the
// class run. fakesnow has no procedures, so that one that arrives is refused.
func TestGuardPythonModel(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	s, port := start(t, issuer, nil)
	const refusal = "there are no procedures"
	next := s.next
	s.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
		text := raw
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(bytes.NewReader(raw))
			if err == nil {
				text, err = io.ReadAll(z)
			}
			if err != nil {
				t.Error(err)
			}
		}
		if bytes.Contains(bytes.ToUpper(text), []byte("AS PROCEDURE")) {
			_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "code": "002140", "message": refusal, "data": map[string]any{"sqlState": "42601"}})
			return
		}
		next.ServeHTTP(w, r)
	})
	for _, also := range [][]statement.Class{nil, {statement.Run}} {
		g := guarded(t, issuer, port, guard.Build, also...)
		workspace, env := setup.GuardedProject(t, strings.Replace(block(g.Address().Port), "user: DBT_PROD", "user: DBT_PROD, authenticator: jwt, token: "+g.Address().Secret.Reveal(), 1))
		setup.Write(t, workspace, "models/scored.py", "def model(dbt, session):\n    dbt.config(materialized='table', packages=['pandas'])\n    return dbt.ref('raw_orders')\n")
		out, _ := setup.DBT(t, setup.Python(t), workspace, env, "build", "--select", "+scored")
		var procedures []string
		for _, e := range g.Entries() {
			if e.Verdict.Class == statement.Run {
				procedures = append(procedures, e.Decision)
			}
		}
		want, says := guard.Denied, "is of class run, and `statements: build` admits read, session, write and define"
		if also != nil {
			want, says = guard.Allowed, refusal
		}
		if !slices.Equal(procedures, []string{want}) || !strings.Contains(strings.Join(strings.Fields(out), " "), says) {
			t.Errorf("also %q: procedures were %q, want one to be %s\n%s", also, procedures, want, out)
		}
	}
}
