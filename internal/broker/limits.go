package broker

import "fmt"

// limits are how many connections there may be of each sort, by how many files
// the process may have open.
type limits struct {
	files                     uint64 // 0 where there is no limit
	strangers, foreign, known int
}

const (
	// ownFiles are kept free for the broker's own work: a renewal that fails for
	// want of a descriptor would fail everybody. It has three streams, listeners,
	// the audit log, the poller, and connections to issuer and provider.
	ownFiles = 40
	// Of connections that have shown the secret each may have one to the
	// warehouse, and that one more that waits to be used again.
	filesEach = 3
	// maxStrangers is more than dbt has threads: they all begin at once.
	maxStrangers = 128
	maxForeign   = 8
	// maxKnown is more than any run has: dbt has one a thread, DuckDB a few.
	maxKnown = 1024
	// enoughFiles are those with which no limit but maxKnown bites.
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

// full is the error of a connection that there is no room for.
func (l limits) full() error {
	return fmt.Errorf("%d connections to the broker are open, which is the maximum", l.known)
}

// String says what the limit is, and which one is needed.
func (l limits) String() string {
	if l.files == 0 || l.files >= enoughFiles {
		return fmt.Sprintf("the broker accepts %d at a time", l.known)
	}
	return fmt.Sprintf("the limit of open files is %d: raise it to %d with ulimit -n or LimitNOFILE, or use fewer threads",
		l.files, enoughFiles)
}
