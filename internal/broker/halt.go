package broker

import (
	"context"
	"net/http"
	"os"
)

// Halt ends at once what the route's clients do at the warehouse: nothing begins
// any more, what is running is cancelled at the server, detached statements too,
// and all sessions end. Clients are told why, until Close. It returns when the
// warehouse has been told, or some seconds later; it does not wait for clients, so
// that a guard may call it. It does nothing for a nil broker.
func (b *Broker) Halt(why error) {
	if b == nil || !b.why.CompareAndSwap(nil, &why) {
		return
	}
	if !b.address.IsValid() { // all that it serves is a file
		b.stop()
		_ = os.Remove(b.file) // it may have gone with its folder
	}
	b.tasks.close(true)
	b.cut()
}

// haltable refuses requests after Halt, and ends those that are under way.
func (b *Broker) haltable(refuse refuser, next http.Handler) http.Handler {
	status := b.service.final
	if status == 0 {
		status = http.StatusInternalServerError
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := b.why.Load(); why != nil {
			refuse(w, status, *why)
			return
		}
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(b.cutting, func() {
			if why := b.why.Load(); why != nil {
				cancel(*why)
			} else {
				cancel(nil) // Close
			}
		})()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
