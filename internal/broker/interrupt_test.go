package broker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A warehouse runs statements until they are cancelled: a client that has gone
// does not end one.
type warehouse struct {
	mu      sync.Mutex
	running map[string]chan struct{}
	began   chan string
	seen    []string // requests to cancel
}

func newWarehouse() *warehouse {
	return &warehouse{running: map[string]chan struct{}{}, began: make(chan string, 100)}
}

// run returns when the statement has been cancelled.
func (w *warehouse) run(id string) {
	end := make(chan struct{})
	w.mu.Lock()
	w.running[id] = end
	w.mu.Unlock()
	w.began <- id
	<-end
}

// cancel reports whether there is such a statement. by is who asks.
func (w *warehouse) cancel(id, by string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, id+" by "+by)
	end, ok := w.running[id]
	if ok {
		close(end)
		delete(w.running, id)
	}
	return ok
}

// check compares the requests to cancel, however often each came: what takes
// long is asked again. It expects nothing to run.
func (w *warehouse) check(t *testing.T, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.seen)
	w.seen = slices.Compact(w.seen)
	if !slices.Equal(w.seen, want) || len(w.running) > 0 {
		t.Errorf("the warehouse was asked to end %q, and %d statements are running, want %q", w.seen, len(w.running), want)
	}
}

// endings are how a statement comes to its end before its time; gone has its
// client go.
var endings = []struct {
	name string
	end  func(b *broker.Broker, gone func())
}{
	{"interrupt", func(b *broker.Broker, _ func()) { b.Interrupt() }},
	{"the broker's end", func(b *broker.Broker, _ func()) { b.Close() }},
	{"the client's end, and the broker's", func(b *broker.Broker, gone func()) { gone(); b.Close() }},
	{"the client's end, and an interrupt", func(b *broker.Broker, gone func()) { gone(); b.Interrupt() }},
}

func TestClickHouseInterrupt(t *testing.T) {
	t.Parallel()
	for _, tt := range endings {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			house := newWarehouse()
			server := httptest.NewTLSServer(clickHouseAtWork(t, house))
			defer server.Close()
			// Each request has another user: who has begun a query ends it.
			count := 0
			b := start(t, route.Route{Kind: route.ClickHouse, Upstream: upstreamOf(t, server)}, func(c *broker.Config) {
				var mu sync.Mutex
				c.Current = func(context.Context) (credential.Credential, error) {
					mu.Lock()
					defer mu.Unlock()
					count++
					return credential.Credential{User: fmt.Sprint("u", count), Password: secret.New("p"), Expiry: time.Now().Add(time.Hour)}, nil
				}
			})
			var all sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ask := func(target, sql string) {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address(b)+target, strings.NewReader(sql))
				if err != nil {
					t.Error(err)
					return
				}
				req.SetBasicAuth("dbt", b.Address().Secret.Reveal())
				resp, err := http.DefaultClient.Do(req)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
			ask("/", "select 1") // u1, which has ended
			all.Go(func() { ask("/?query_id=own'", "select sleep") })
			<-house.began
			all.Go(func() { ask("/", "select sleep") })
			id := <-house.began
			tt.end(b, func() { cancel(); all.Wait() })
			house.check(t, slices.Sorted(slices.Values([]string{id + " by u3", `'own\'' by u2`}))...)
			all.Wait()
		})
	}
}

// clickHouseAtWork runs queries until they are killed.
func clickHouseAtWork(t *testing.T, house *warehouse) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		sql, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		id := r.URL.Query().Get("query_id")
		if id == "" {
			id = r.Header.Get("X-ClickHouse-Query-Id")
		}
		switch killed, kill := strings.CutPrefix(string(sql), "KILL QUERY WHERE query_id = "); {
		case kill:
			killed = strings.TrimSuffix(killed, " SYNC FORMAT TSV")
			if house.cancel(killed, user) {
				fmt.Fprintf(w, "finished\t%s\t%s\n", killed, user)
			}
		case string(sql) == "select 1":
			fmt.Fprintln(w, 1)
		case id != "":
			house.run("'" + strings.ReplaceAll(id, "'", `\'`) + "'")
			http.Error(w, "Code: 394. DB::Exception: Query was cancelled. (QUERY_WAS_CANCELLED)", http.StatusInternalServerError)
		default:
			t.Error("a query has no id")
		}
	})
}

func TestTrinoInterrupt(t *testing.T) {
	t.Parallel()
	for _, tt := range endings {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			house := newWarehouse()
			b, _ := startTrino(t, func(w http.ResponseWriter, r *http.Request) {
				id := strings.Split(r.URL.Path, "/")[len(strings.Split(r.URL.Path, "/"))-1]
				switch {
				case r.Method == http.MethodPost:
					sql, _ := io.ReadAll(r.Body)
					fmt.Fprintf(w, `{"id":%q,"nextUri":"https://%s/v1/statement/queued/%s/y1/%s"}`, sql, r.Host, sql, sql)
				case r.Method == http.MethodDelete:
					house.cancel(r.URL.Path, r.Header.Get("Authorization"))
					w.WriteHeader(http.StatusNoContent)
				case id == "brief":
					fmt.Fprintf(w, `{"id":"brief","data":[[%q]]}`, strings.Repeat("x", 100_000))
				case strings.Contains(r.URL.Path, "queued"):
					fmt.Fprintf(w, `{"id":%q,"nextUri":"https://%s/v1/statement/executing/%s/y2/%s"}`, id, r.Host, id, id)
				default:
					house.run(r.URL.Path)
					fmt.Fprintf(w, `{"id":%q,"error":{"errorName":"USER_CANCELED"}}`, id)
				}
			})
			client := trusting(t, b)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			follow := func(sql string) {
				method, to := http.MethodPost, "https://"+address(b)+"/v1/statement"
				for to != "" {
					req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(sql))
					if err != nil {
						t.Error(err)
						return
					}
					req.Header.Set("Authorization", "Bearer "+b.Address().Secret.Reveal())
					resp, err := client.Do(req)
					if err != nil {
						return
					}
					var reply struct {
						NextURI string `json:"nextUri"`
					}
					_ = json.NewDecoder(resp.Body).Decode(&reply)
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					method, to = http.MethodGet, reply.NextURI
				}
			}
			follow("brief")
			var all sync.WaitGroup
			all.Go(func() { follow("long") })
			<-house.began
			tt.end(b, func() { cancel(); all.Wait() })
			house.check(t, "/v1/statement/executing/long/y2/long by Bearer marked-token")
			all.Wait()
		})
	}
}

func TestSnowflakeInterrupt(t *testing.T) {
	t.Parallel()
	for _, tt := range endings {
		for _, poll := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, poll %t", tt.name, poll), func(t *testing.T) {
				t.Parallel()
				house := newWarehouse()
				account, r := startSnowflake(t)
				account.Config.Handler = snowflakeAtWork(house, account.Config.Handler, poll)
				b := start(t, r, idToken)
				session, _ := logIn(t, b)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ask := func(method, target, body string) (reply snowflakeReply) {
					req, err := http.NewRequestWithContext(ctx, method, "http://"+address(b)+target, strings.NewReader(body))
					if err != nil {
						t.Error(err)
						return reply
					}
					req.Header.Set("Authorization", session)
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						return reply
					}
					defer resp.Body.Close()
					_ = json.NewDecoder(resp.Body).Decode(&reply)
					return reply
				}
				ask(http.MethodPost, "/queries/v1/query-request?requestId=brief", `{"sqlText":"select 1"}`)
				ask(http.MethodPost, "/queries/v1/query-request?requestId=async", `{"sqlText":"call long()","asyncExec":true}`)
				var all sync.WaitGroup
				all.Go(func() {
					if reply := ask(http.MethodPost, "/queries/v1/query-request?requestId=long1", `{"sqlText":"call long()","asyncExec":false}`); reply.Code == "333333" {
						ask(http.MethodGet, "/queries/q-long1/result?x=1", "")
					}
				})
				<-house.began
				tt.end(b, func() { cancel(); all.Wait() })
				house.check(t, "long1 by "+session)
				all.Wait()
			})
		}
	}
}

// snowflakeAtWork runs statements until they are aborted; with poll the client
// has to ask for the result.
func snowflakeAtWork(house *warehouse, own http.Handler, poll bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("requestId")
		switch {
		case r.URL.Path == "/queries/v1/query-request" && strings.HasPrefix(id, "long") && poll:
			fmt.Fprintf(w, `{"success":true,"code":"333333","data":{"getResultUrl":"/queries/q-%s/result?x=1"}}`, id)
		case r.URL.Path == "/queries/v1/query-request" && strings.HasPrefix(id, "long"):
			house.run(id)
			fmt.Fprint(w, `{"success":false,"code":"000604","message":"SQL execution canceled"}`)
		case strings.HasPrefix(r.URL.Path, "/queries/q-long"):
			house.run(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/queries/q-"), "/result"))
			fmt.Fprint(w, `{"success":false,"code":"000604","message":"SQL execution canceled"}`)
		case r.URL.Path == "/queries/v1/query-request" && id == "async":
			fmt.Fprint(w, `{"success":true,"code":"333334","data":{"getResultUrl":"/queries/q-async/result"}}`)
		case r.URL.Path == "/queries/v1/abort-request":
			var in struct{ RequestID string }
			_ = json.NewDecoder(r.Body).Decode(&in)
			house.cancel(in.RequestID, r.Header.Get("Authorization"))
			fmt.Fprint(w, `{"success":true}`)
		default:
			own.ServeHTTP(w, r)
		}
	})
}
