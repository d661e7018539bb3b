package broker

import "fmt"

// limits are the numbers of connections of each sort that the limit of open files
// allows.
type limits struct {
	files                     uint64 // 0 for no limit
	strangers, foreign, known int
}

const (
	// ownFiles are reserved for the broker's own work: a renewal that fails for
	// lack of a descriptor would fail all clients. It has three streams, listeners,
	// the audit log, the poller, and connections to issuer and provider.
	ownFiles = 40
	// Each connection that has shown the secret may need one to the warehouse, and
	// an idle one may wait to be reused.
	filesEach = 3
	// maxStrangers is more than dbt has threads: they all begin at once.
	maxStrangers = 128
	maxForeign   = 8
	// maxKnown is more than any run has: dbt has one a thread, DuckDB a few.
	maxKnown = 1024
	// enoughFiles is the limit of open files from which only maxKnown matters.
	enoughFiles = ownFiles + maxStrangers + maxForeign + filesEach*maxKnown
)

func limitsOf(files uint64) limits {
	l := limits{files: files, strangers: maxStrangers, foreign: maxForeign, known: maxKnown}
	if files == 0 || files >= enoughFiles {
		return l
	}
	free := max(int(files)-ownFiles, 0)
	l.strangers = min(max(free/4, 4), maxStrangers)
	l.foreign = min(max(free/16, 1), maxForeign)
	l.known = max((free-l.strangers-l.foreign)/filesEach, 1)
	return l
}

// full is the error of a connection beyond the limit.
func (l limits) full() error {
	return fmt.Errorf("%d connections to the broker are open, which is the maximum", l.known)
}

// String says what the limit is and which one is needed.
func (l limits) String() string {
	if l.files == 0 || l.files >= enoughFiles {
		return fmt.Sprintf("the broker accepts %d at a time", l.known)
	}
	return fmt.Sprintf("the limit of open files is %d: raise it to %d with ulimit -n or LimitNOFILE, or use fewer threads",
		l.files, enoughFiles)
}
