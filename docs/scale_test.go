package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// TestScaleCountsRequests: the page's requests of each provider are those that the provider's own tests record.
func TestScaleCountsRequests(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile("(?m)^\\| .* \\| (\\d+)[^|]* \\| `([a-z-]+\\.http)` \\|$")
	rows := row.FindAllStringSubmatch(pages(t)["../docs/scale.md"], -1)
	if len(rows) < 12 {
		t.Fatalf("found %d rows, want 12", len(rows))
	}
	for _, r := range rows {
		text, err := os.ReadFile(filepath.Join("..", "internal", "provider", "testdata", "requests", r[2]))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count("\n"+string(text), "\n### "); strconv.Itoa(n) != r[1] {
			t.Errorf("%s has %d requests, the page says %s", r[2], n, r[1])
		}
	}
}

// TestScaleCountsRenewals lets the broker's keeper renew for six simulated hours, many times.
func TestScaleCountsRenewals(t *testing.T) {
	t.Parallel()
	page := pages(t)["../docs/scale.md"]
	for name, life := range map[string]time.Duration{
		"5 min (Snowflake by `oidc`)": 5 * time.Minute, "15 min": 15 * time.Minute, "1 h (AWS, Google, Entra ID)": time.Hour, "12 h": 12 * time.Hour,
	} {
		m := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(name) + ` \| (\S+) to (\S+) \| (\d+)(?: to (\d+))? \|$`).FindStringSubmatch(page)
		if m == nil {
			t.Errorf("the page has no row for %s", name)
			continue
		}
		soonest, err1 := time.ParseDuration(m[1])
		latest, err2 := time.ParseDuration(m[2])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if m[4] == "" {
			m[4] = m[3]
		}
		if fewest, most := fmt.Sprint(int(6*time.Hour/latest)), fmt.Sprint(int(6*time.Hour/soonest)); m[3] != fewest || m[4] != most {
			t.Errorf("%s: the page says %s to %s renewals, want %s to %s", name, m[3], m[4], fewest, most)
		}
		for range 10 {
			synctest.Test(t, func(t *testing.T) {
				for _, after := range renewals(t, life, 6*latest) {
					if after < soonest-time.Second || after > latest+2*time.Second {
						t.Errorf("%s: renewed after %s, the page says %s to %s", name, after, soonest, latest)
					}
				}
			})
		}
	}
}

// renewals returns how long each credential was used, by a client that asks all the time.
func renewals(t *testing.T, life, span time.Duration) (list []time.Duration) {
	t.Helper()
	next := func() credential.Credential { return credential.Credential{Expiry: time.Now().Add(life)} }
	last := time.Now()
	renewed := make(chan struct{}, 1)
	keeper := broker.NewKeeper(next(), broker.KeeperConfig{Provider: "test", Tell: func(err error) { t.Error(err) }, Now: time.Now,
		Renew: func(context.Context, bool) (credential.Credential, error) {
			list = append(list, time.Since(last))
			last = time.Now()
			renewed <- struct{}{}
			return next(), nil
		}})
	defer keeper.Close()
	for begin := time.Now(); time.Since(begin) < span; time.Sleep(time.Second) {
		if _, err := keeper.Current(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		select {
		case <-renewed:
		default:
		}
	}
	return list
}

// TestScaleMultiplies: the table is what a repository has, so many times.
func TestScaleMultiplies(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile(`(?m)^\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.,]+) \| ([\d.]+) \|$`)
	rows := row.FindAllStringSubmatch(pages(t)["../docs/scale.md"], -1)
	if len(rows) != 5 {
		t.Fatalf("found %d rows, want 5", len(rows))
	}
	number := func(text string) float64 {
		n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	near := func(text string, want float64) bool {
		got := number(text)
		return got > want*0.9 && got < want*1.1 || got <= 0.1 && want < 0.15
	}
	pair := recordSize(t)
	if pair < 3500 || pair > 5500 {
		t.Errorf("two records have %.0f bytes, the page says 4 to 5 kB", pair)
	}
	for _, r := range rows {
		jobs := 24 * number(r[1])
		if number(r[2]) != jobs || number(r[3]) != jobs || number(r[4]) != 2*jobs || !near(r[5], jobs*5000/1e6) || !near(r[6], number(r[1])/60) {
			t.Errorf("the row of %s repositories is %q", r[1], r[0])
		}
	}
}

// recordSize returns the bytes of a decision and its outcome, each on its line.
func recordSize(t *testing.T) float64 {
	t.Helper()
	var lines bytes.Buffer
	for _, name := range []string{"allowed.json", "issued.json"} {
		text, err := os.ReadFile(filepath.Join("..", "internal", "audit", "testdata", name))
		if err == nil {
			err = json.Compact(&lines, text)
		}
		if err != nil {
			t.Fatal(err)
		}
		lines.WriteByte('\n')
	}
	return float64(lines.Len())
}
