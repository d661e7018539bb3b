package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	sqlguard "github.com/oidc-dbt/oidc-dbt/internal/guard"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/strictyaml"
)

var limitKeys = []string{"statement_timeout", "scan"}

const (
	maxStatementTimeout = 7 * day // Snowflake's own maximum
	maxScan             = 1e18    // bytes: what warehouses count in
)

// sizePattern is what size reads: units of powers of 1000 and of 1024.
const sizePattern = `^[1-9][0-9]{0,17}([kKMGTP]?B|[KMGTP]iB)$`

var sizeText = lazy.MustCompile(sizePattern)

// sizes are the units, from the largest.
var sizes = []struct {
	unit  string
	bytes int64
}{
	{"PiB", 1 << 50}, {"PB", 1e15}, {"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6},
	{"KiB", 1 << 10}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// limits reads limits, which replace those that l has.
func (d *document) limits(l *sqlguard.Limits, n *yaml.Node) {
	m, ok := d.Mapping(n, n, "limits", limitKeys)
	if !ok {
		return
	}
	if len(n.Content) == 0 {
		d.Report(n, "limits is empty: remove it, or give one of %q", limitKeys)
	}
	if v := m.Get("statement_timeout"); v != nil {
		if l.StatementTimeout = d.Duration(v, "statement_timeout"); l.StatementTimeout > maxStatementTimeout {
			d.Report(v, "statement_timeout is %s, want at most %s", v.Value, short(maxStatementTimeout))
		}
	}
	if v := m.Get("scan"); v != nil {
		l.Scan = d.size(v, "scan")
	}
}

// size reads a number of bytes with its unit; 0 after a fault.
func (d *document) size(n *yaml.Node, what string) int64 {
	if n.Kind != yaml.ScalarNode || !sizeText.MatchString(n.Value) {
		d.Report(n, "%s is %s, want a size such as 500GB, 2TB or 64GiB", what, strictyaml.Shown(n))
		return 0
	}
	at := strings.IndexFunc(n.Value, func(c rune) bool { return c > '9' })
	count, err := strconv.ParseInt(n.Value[:at], 10, 64)
	if err != nil {
		panic(err) // sizeText matched: up to 18 digits
	}
	for _, s := range sizes {
		if s.unit != n.Value[at:] {
			continue
		}
		if count <= maxScan/s.bytes {
			return count * s.bytes
		}
		break
	}
	d.Report(n, "%s is %s, want at most %s", what, n.Value, sizeOf(maxScan))
	return 0
}

// sizeOf prints a size as a policy writes it.
func sizeOf(bytes int64) string {
	for _, s := range sizes {
		if bytes%s.bytes == 0 {
			return fmt.Sprintf("%d%s", bytes/s.bytes, s.unit)
		}
	}
	return ""
}

// limitsText lists limits as a policy writes them, "" for none.
func limitsText(l sqlguard.Limits) string {
	var list []string
	if l.StatementTimeout > 0 {
		list = append(list, "statement_timeout: "+short(l.StatementTimeout))
	}
	if l.Scan > 0 {
		list = append(list, "scan: "+sizeOf(l.Scan))
	}
	return strings.Join(list, ", ")
}

// loosened returns a limit that is higher than the other, or missing next to
// it; "" for none.
func loosened(l, other sqlguard.Limits) string {
	higher := []bool{
		other.StatementTimeout > 0 && (l.StatementTimeout == 0 || l.StatementTimeout > other.StatementTimeout),
		other.Scan > 0 && (l.Scan == 0 || l.Scan > other.Scan),
	}
	if i := slices.Index(higher, true); i >= 0 {
		return limitKeys[i]
	}
	return ""
}
