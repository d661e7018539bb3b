package adapter

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestMain names what a row lacks before any test meets it.
func TestMain(m *testing.M) {
	if list := incomplete(); len(list) > 0 {
		fmt.Fprintf(os.Stderr, "rows of internal/adapter that are not complete:\n%s\n", strings.Join(list, "\n"))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func incomplete() (list []string) {
	for _, dbtType := range slices.Sorted(maps.Keys(adapters)) {
		for _, name := range slices.Sorted(maps.Keys(adapters[dbtType].pairs)) {
			if lacks := adapters[dbtType].pairs[name].lacks(adapters[dbtType]); len(lacks) > 0 {
				list = append(list, fmt.Sprintf("%s × %s lacks %s", dbtType, name, strings.Join(lacks, ", ")))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		if p := tools[name]; p.render == nil || p.route == nil {
			list = append(list, fmt.Sprintf("the row of %s for targets without dbt lacks render or route", name))
		}
	}
	return list
}

// lacks returns the columns that a row needs and has not got.
func (p pair) lacks(a adapter) (list []string) {
	for _, column := range []struct {
		name string
		ok   bool
	}{
		{"gives, or Fields in asks", p.gives != "" || len(p.asks.Fields) > 0},
		{"one of gives and Fields in asks, it has both", p.gives == "" || p.asks.Fields == nil},
		{"render", p.render != nil},
		{"route", p.route != nil},
		{"client", a.client == nil || p.client != ""},
	} {
		if !column.ok {
			list = append(list, column.name)
		}
	}
	return list
}

func TestIncompleteRowsAreNamed(t *testing.T) {
	t.Parallel()
	if got, want := strings.Join(pair{}.lacks(adapter{client: snowflakeVariables}), "; "), "gives, or Fields in asks; render; route; client"; got != want {
		t.Errorf("an empty row lacks %q, want %q", got, want)
	}
	whole := postgres.pairs["vault"]
	whole.gives = "database_login"
	if got, want := strings.Join(whole.lacks(postgres), "; "), "one of gives and Fields in asks, it has both"; got != want {
		t.Errorf("a row that says it twice lacks %q, want %q", got, want)
	}
}
