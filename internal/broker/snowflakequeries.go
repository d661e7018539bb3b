package broker

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
)

// How a client runs a statement, waits for one that takes longer than 45
// seconds, and ends one. (snowflake-connector-python 4.8, network.py, cursor.py)
const (
	snowflakeQuery   = "/queries/v1/query-request"
	snowflakeAbort   = "/queries/v1/abort-request"
	snowflakeQueries = "/queries/"
	snowflakeResult  = "/result"
)

// snowflakeAtWork are the codes of a reply that comes before the result.
var snowflakeAtWork = map[string]bool{"333333": true, "333334": true}

// snowflakeStatements are those that Snowflake may be at.
type snowflakeStatements struct {
	tasks  *tasks
	client *http.Client
	base   *url.URL

	mu       sync.Mutex
	requests map[string]*snowflakeStatement // by the request's id
	results  map[string]*snowflakeStatement // by the path of what is to come
}

type snowflakeStatement struct {
	task   *task
	id     string // of the request
	result string // the path of what is to come, "" until Snowflake has named it

	session  atomic.Pointer[string] // as the client showed it last
	underway underway
}

func (q *snowflakeStatement) running() uint64 {
	if q.underway.left.Load() && !q.underway.ended.Load() {
		return 1
	}
	return 0
}

type snowflakeStatementKey struct{}

// begin returns the request for a statement, or for its result, as one whose
// end is seen to. It reports false where the run is over.
func (s *snowflakeStatements) begin(r *http.Request) (*http.Request, bool) {
	session, id := r.Header.Get("Authorization"), r.URL.Query().Get("requestId")
	statement := r.Method == http.MethodPost && r.URL.Path == snowflakeQuery && id != ""
	abort := r.Method == http.MethodPost && r.URL.Path == snowflakeAbort
	var in snowflakeStatementRequest
	if statement || abort {
		in = peekStatement(r)
	}
	var q *snowflakeStatement
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case abort: // the reply is the statement's end
		q = s.requests[in.RequestID]
	case strings.HasPrefix(r.URL.Path, snowflakeQueries) && strings.HasSuffix(r.URL.Path, snowflakeResult):
		q = s.results[r.URL.Path]
	case !statement:
	case s.requests[id] != nil: // the same, tried again
		q = s.requests[id]
	default:
		q = &snowflakeStatement{id: id}
		q.task = &task{running: q.running, cancel: func(ctx context.Context) { s.abort(ctx, q) }, detached: in.AsyncExec}
		if !s.tasks.add(q.task) {
			return r, false
		}
		if len(s.requests) < maxTasks {
			s.requests[id] = q
		}
	}
	if q == nil {
		return r, true
	}
	q.session.Store(&session)
	r = q.underway.noted(r)
	return r.WithContext(context.WithValue(r.Context(), snowflakeStatementKey{}, q)), true
}

// A snowflakeStatementRequest is what is looked at of a statement, or of what
// ends one.
type snowflakeStatementRequest struct {
	AsyncExec bool   `json:"asyncExec"` // the client will not wait for its end: then the end of the run does not end it
	RequestID string `json:"requestId"` // of the statement to end
}

// peekStatement reads ahead. What is too long to be looked at has neither:
// dbt's statements do not.
func peekStatement(r *http.Request) (in snowflakeStatementRequest) {
	head, err := readBounded(r.Body)
	r.Body = readCloser{io.MultiReader(bytes.NewReader(head), r.Body), r.Body}
	if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
		head, err = gunzip(head)
	}
	if err != nil || json.Unmarshal(head, &in) != nil {
		return snowflakeStatementRequest{}
	}
	return in
}

type readCloser struct {
	io.Reader
	io.Closer
}

func gunzip(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return readBounded(z)
}

// maxAtWork bounds a reply that comes before the result: what is longer has one.
const maxAtWork = 4 << 10

// look looks at the reply to a request that begin has returned.
func (s *snowflakeStatements) look(resp *http.Response) error {
	q, ok := resp.Request.Context().Value(snowflakeStatementKey{}).(*snowflakeStatement)
	if !ok || resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusBadGateway ||
		resp.StatusCode == http.StatusGatewayTimeout {
		return nil // the client asks again
	}
	head := make([]byte, maxAtWork)
	n, err := io.ReadFull(resp.Body, head)
	head = head[:n]
	resp.Body = readCloser{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	var reply struct {
		Code string `json:"code"`
		Data struct {
			Result string `json:"getResultUrl"`
		} `json:"data"`
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // it is here as a whole
		if resp.Header.Get("Content-Encoding") == "gzip" {
			if head, err = gunzip(head); err != nil {
				head = nil
			}
		}
		_ = json.Unmarshal(head, &reply) // what is none is no such reply
	} else if err != nil {
		return err
	}
	if !snowflakeAtWork[reply.Code] {
		s.end(q)
		return nil
	}
	if at, err := url.Parse(reply.Data.Result); err == nil && at.Path != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.results, q.result)
		q.result = at.Path
		s.results[q.result] = q
	}
	return nil
}

func (s *snowflakeStatements) end(q *snowflakeStatement) {
	q.underway.ended.Store(true)
	s.tasks.remove(q.task)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, q.id)
	delete(s.results, q.result)
}

// neverLeft ends a statement whose request has not reached Snowflake.
func (s *snowflakeStatements) neverLeft(r *http.Request) {
	if q, ok := r.Context().Value(snowflakeStatementKey{}).(*snowflakeStatement); ok && !q.underway.left.Load() {
		s.end(q)
	}
}

// abort ends a statement as its client would.
func (s *snowflakeStatements) abort(ctx context.Context, q *snowflakeStatement) {
	body, err := json.Marshal(map[string]string{"sqlText": "", "requestId": q.id})
	if err != nil {
		return
	}
	to := *s.base
	to.Path, to.RawQuery = snowflakeAbort, url.Values{"requestId": {rand.Text()}}.Encode()
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return
	}
	out.Header.Set("Authorization", *q.session.Load())
	out.Header.Set("Content-Type", "application/json")
	out.Header.Set("Accept", "application/snowflake")
	resp, err := s.client.Do(out)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	text, err := readBounded(resp.Body)
	var reply struct {
		Success bool `json:"success"`
	}
	if err == nil && json.Unmarshal(text, &reply) == nil && reply.Success {
		s.end(q)
	}
}
