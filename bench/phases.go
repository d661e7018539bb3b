//go:build unix

package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// phaseNames are the parts of a run as the servers see it, so that the programs
// need no instrumentation.
var phaseNames = [...]string{
	"from the start to the request for the ID token",
	"until the request is answered",
	"until the exchange is requested",
	"until it is answered",
	"until the process has ended",
}

// A timeline records when a run's requests arrived and were answered.
type timeline struct {
	mu    sync.Mutex
	times [len(phaseNames)]time.Time // when each phase began
}

// begin starts the timeline of the next run.
func (l *timeline) begin() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times = [len(phaseNames)]time.Time{time.Now()}
	return l.times[0]
}

func (l *timeline) arrived(r *http.Request) { l.set(r, 1, 3) }

func (l *timeline) answered(r *http.Request) { l.set(r, 2, 4) }

// set records the begin of phase token for a request for the ID token, and of
// phase exchange for an exchange. Requests for keys run in parallel.
func (l *timeline) set(r *http.Request, token, exchange int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r.Method == http.MethodPost:
		l.times[exchange] = time.Now()
	case strings.HasPrefix(r.URL.Path, "/token"):
		l.times[token] = time.Now()
	}
}

// phases returns how long each phase took.
func (l *timeline) phases(ended time.Time) (phases [len(phaseNames)]time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, began := range l.times {
		next := ended
		if i+1 < len(l.times) {
			next = l.times[i+1]
		}
		phases[i] = next.Sub(began)
	}
	return phases
}

func printPhases(action, bare sample) {
	fmt.Println("\n| phase | action | bare | difference |\n| --- | --- | --- | --- |")
	for i, name := range phaseNames {
		fmt.Printf("| %s | %.1f ms | %.1f ms | %+.1f ms |\n", name, ms(action.phases[i]), ms(bare.phases[i]),
			ms(action.phases[i]-bare.phases[i]))
	}
}
