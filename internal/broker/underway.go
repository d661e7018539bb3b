package broker

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// underway tracks a request that is passed on.
type underway struct {
	left  atomic.Bool // it may have reached the warehouse
	ended atomic.Bool // the reply is here to its end
}

type underwayKey struct{}

// noted returns r as a request that u notes.
func (u *underway) noted(r *http.Request) *http.Request {
	ctx := context.WithValue(r.Context(), underwayKey{}, u)
	return r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { u.left.Store(true) }}))
}

// noteEnd has the end of a reply noted, if its request is.
func noteEnd(resp *http.Response) {
	if u, ok := resp.Request.Context().Value(underwayKey{}).(*underway); ok {
		resp.Body = endingAt{resp.Body, func() { u.ended.Store(true) }}
	}
}

// endingAt is a body that tells when it has been read to its end.
type endingAt struct {
	io.ReadCloser
	ended func()
}

func (e endingAt) Read(b []byte) (int, error) {
	n, err := e.ReadCloser.Read(b)
	if err == io.EOF {
		e.ended()
	}
	return n, err
}
