package broker

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// trinoQueries are those that Trino may be running: their last replies had a URI
// at which they continue.
type trinoQueries struct {
	broker *Broker
	client *http.Client
	login  func(out *http.Request, c credential.Credential)

	mu  sync.Mutex
	all map[string]*trinoQuery // by id
}

type trinoQuery struct {
	task  *task
	next  atomic.Pointer[string] // Trino's own URI
	ended atomic.Bool
}

func (q *trinoQuery) running() uint64 {
	if q.ended.Load() {
		return 0
	}
	return 1
}

// trinoID returns the id of the query that a path is of, "" for none:
// /v1/statement/queued/ID/SLUG/NUMBER or /v1/statement/executing/ID/…
func trinoID(path string) string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(path, statements+"/"), "/")
	id, _, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return id
}

// goOn notes where a query goes on.
func (qs *trinoQueries) goOn(uri string) {
	u, err := url.Parse(uri)
	if err != nil {
		return // it has been looked at by now
	}
	id := trinoID(u.Path)
	if id == "" {
		return
	}
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q := qs.all[id]
	if q == nil {
		q = &trinoQuery{}
		q.task = &task{running: q.running, cancel: func(ctx context.Context) { qs.cancel(ctx, q) }}
	}
	q.next.Store(&uri)
	if qs.all[id] == nil && len(qs.all) < maxTasks {
		qs.all[id] = q
		if !qs.broker.tasks.add(q.task) {
			go q.task.end()
		}
	}
}

// end notes that there is no more to come of the query that a path is of.
func (qs *trinoQueries) end(path string) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	id := trinoID(path)
	if q := qs.all[id]; q != nil {
		q.ended.Store(true)
		qs.broker.tasks.remove(q.task)
		delete(qs.all, id)
	}
}

// cancel ends a query as its client would.
func (qs *trinoQueries) cancel(ctx context.Context, q *trinoQuery) {
	c, err := qs.broker.config.Current(ctx)
	if err != nil {
		return
	}
	out, err := http.NewRequestWithContext(ctx, http.MethodDelete, *q.next.Load(), nil)
	if err != nil {
		return
	}
	qs.login(out, c)
	resp, err := qs.client.Do(out)
	if err != nil {
		return
	}
	resp.Body.Close()
	if resp.StatusCode < http.StatusMultipleChoices || resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
		qs.end(out.URL.Path)
	}
}
