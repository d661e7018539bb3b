package review_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/review"
)

// TestStates: a review is overdue on the day on which runs say so.
func TestStates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, keys string
		within     string
		now        string // of 2026-11-28, if it is not noon
		want       string
	}{
		{name: "never", within: "14d", want: "never, 0 days, due 0001-01-01"},
		{name: "long ago", keys: "trust_reviewed: 2026-07-01", within: "14d", want: "overdue, -60 days, due 2026-09-29"},
		{name: "yesterday", keys: "trust_reviewed: 2026-08-29", within: "0d", want: "overdue, -1 days, due 2026-11-27"},
		{name: "today", keys: "trust_reviewed: 2026-08-30", within: "0d", want: "overdue, 0 days, due 2026-11-28"},
		{name: "today, to the second", keys: "trust_reviewed: 2026-08-30", within: "0d", now: "00:00:00", want: "due, 0 days, due 2026-11-28"},
		{name: "tomorrow", keys: "trust_reviewed: 2026-08-31", within: "0d", want: "current, 1 days, due 2026-11-29"},
		{name: "tomorrow, within a day", keys: "trust_reviewed: 2026-08-31", within: "1d", want: "due, 1 days, due 2026-11-29"},
		{name: "within two weeks", keys: "trust_reviewed: 2026-09-13", within: "14d", want: "due, 14 days, due 2026-12-12"},
		{name: "after two weeks", keys: "trust_reviewed: 2026-09-14", within: "14d", want: "current, 15 days, due 2026-12-13"},
		{name: "a month", keys: "trust_reviewed: 2026-11-01\n    trust_max_age: 30d", within: "14d", want: "due, 3 days, due 2026-12-01"},
		{name: "a year is 90 days", keys: "trust_reviewed: 2026-11-01\n    trust_max_age: 365d", within: "14d", want: "current, 63 days, due 2027-01-30"},
		{name: "by the defaults", keys: "defaults", within: "14d", want: "overdue, -60 days, due 2026-09-29"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := strings.Replace(source("prod", first), "trust_reviewed: 2026-10-01", tt.keys, 1)
			if tt.keys == "defaults" {
				src = strings.Replace(strings.Replace(source("prod", first), "    trust_reviewed: 2026-10-01\n", "", 1), "targets:",
					"defaults: {trust_reviewed: 2026-07-01}\ntargets:", 1)
			}
			p, err := policy.Parse("oidc-dbt.yml", []byte(src), job.Catalog())
			if err != nil {
				t.Fatal(err)
			}
			within, err := review.ParseWithin(tt.within)
			if err != nil {
				t.Fatal(err)
			}
			now := today
			if tt.now != "" {
				if now, err = time.Parse(time.DateTime, "2026-11-28 "+tt.now); err != nil {
					t.Fatal(err)
				}
			}
			r, err := review.New(t.Context(), review.Input{Policy: p, Now: now, Within: within})
			if err != nil {
				t.Fatal(err)
			}
			of := r.Targets[0]
			if got := fmt.Sprintf("%s, %d days, due %s", of.State, of.Days, of.Due.Format(time.DateOnly)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestTargets: those that are asked for, the most urgent first, with what
// their providers cannot enforce.
func TestTargets(t *testing.T) {
	t.Parallel()
	src := source("a", first, "b", first, "c", first)
	src = strings.Replace(src, "    trust_reviewed: 2026-10-01\n", "    trust_reviewed: 2026-11-01\n", 1)
	p, err := policy.Parse("oidc-dbt.yml", []byte(src), job.Catalog())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		targets []string
		want    string
		err     string
	}{
		{want: "b c a"},
		{targets: []string{"a", "c", "a"}, want: "c a"},
		{targets: []string{"a", "d"}, err: `unknown target "d", oidc-dbt.yml has ["a" "b" "c"]`},
	} {
		r, err := review.New(t.Context(), review.Input{Policy: p, Targets: tt.targets, Now: today,
			Unenforced: func(of *policy.Target) []string { return []string{"event_name of " + of.Name()} }})
		if got := fmt.Sprint(err); err != nil || tt.err != "" {
			if got != tt.err {
				t.Errorf("%q: got %q, want %q", tt.targets, got, tt.err)
			}
			continue
		}
		var names []string
		for _, of := range r.Targets {
			names = append(names, of.Name)
			if diff := cmp.Diff([]string{"event_name of " + of.Name}, of.Unenforced); diff != "" || !r.WithUnenforced {
				t.Errorf("unenforced (-want +got):\n%s", diff)
			}
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.targets, got, tt.want)
		}
	}
}

func TestParseWithin(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "d", "14", "2w", "-1d", "1.5d", "14h", "99999d", "+1d", "1_0d"} {
		_, err := review.ParseWithin(text)
		if want := fmt.Sprintf("got %q, want a number of days such as 14d", text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// report has every state, and names that attack.
func report() review.Report {
	at := func(text string) time.Time {
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			panic(err)
		}
		return t
	}
	const commit = "7f93c5e6a1b20d4f8e9c3a5b7d1f2e4c6a8b0d2f"
	by := func(author, day string) review.Change {
		return review.Change{Commit: commit, Author: author, Time: at(day)}
	}
	return review.Report{Now: today, Within: 14 * 24 * time.Hour, Targets: []review.Target{
		{Name: "never", Provider: "aws", State: review.Never, Changed: review.Change{Unknown: "not in git"}},
		{Name: "late", Provider: "gcp", Reviewed: at("2026-07-01"), Due: at("2026-09-29"), State: review.Overdue, Days: -60,
			Changed: by("Ada Lovelace", "2026-08-12"), Unenforced: []string{"event_name", "actor"}},
		{Name: "today", Provider: "gcp", Reviewed: at("2026-08-30"), Due: at("2026-11-28"), State: review.Overdue,
			Changed: by(`=HYPERLINK("https://evil.example","x")`, "2026-08-30")},
		{Name: "soon", Provider: "vault", Reviewed: at("2026-08-31"), Due: at("2026-11-29"), State: review.Due, Days: 1,
			Changed: by("</code> | @acme/all #1 **x** [y](https://evil.example) `z`\uFFFD", "2026-08-30")},
		{Name: "later", Provider: "oidc", Reviewed: at("2026-11-01"), Due: at("2027-01-30"), State: review.Current, Days: 63,
			Changed: by("::error::x ##[group]y, \"z\"", "2026-08-30"), Unenforced: []string{"-event_name"}},
	}}
}

// TestFormats: what each format makes of a report.
func TestFormats(t *testing.T) {
	t.Parallel()
	for _, name := range review.Formats() {
		r := report()
		without, err := review.In(name)(r)
		if err != nil {
			t.Fatal(err)
		}
		r.WithUnenforced = true
		with, err := review.In(name)(r)
		if err != nil {
			t.Fatal(err)
		}
		golden.Compare(t, "testdata/without."+name, without)
		golden.Compare(t, "testdata/with."+name, with)
	}
	if review.In("xml") != nil {
		t.Error("there is a format xml")
	}
}

// TestMarkdownFitsAnIssue: GitHub refuses a longer one.
func TestMarkdownFitsAnIssue(t *testing.T) {
	t.Parallel()
	r := report()
	for len(r.Targets) < 5000 {
		r.Targets = append(r.Targets, r.Targets...)
	}
	for i := range r.Targets {
		r.Targets[i].Changed.Author = strings.Repeat("|", 80) // the longest cell
	}
	text, err := review.In("markdown")(r)
	if err != nil || len(text) > 65536 || !strings.Contains(text, " more targets are not shown: `oidc-dbt trust due` shows all.\n") {
		t.Errorf("%d bytes, %v: %s", len(text), err, text[max(0, len(text)-300):])
	}
}

// TestHeadlines: one line says what is to be done.
func TestHeadlines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		states []review.State
		within time.Duration
		want   string
	}{
		{[]review.State{review.Current}, 0, "No review is due today.\n"},
		{[]review.State{review.Current}, 24 * time.Hour, "No review is due within 1 day.\n"},
		{[]review.State{review.Never}, 0, "1 of 1 target must be reviewed today.\n"},
		{[]review.State{review.Overdue, review.Due, review.Current}, 14 * 24 * time.Hour, "2 of 3 targets must be reviewed within 14 days.\n"},
	} {
		r := review.Report{Now: today, Within: tt.within}
		for _, s := range tt.states {
			r.Targets = append(r.Targets, review.Target{Name: "a", State: s, Changed: review.Change{Unknown: "not in git"}})
		}
		text, err := review.In("text")(r)
		if err != nil || !strings.HasSuffix(text, "\n\n"+tt.want) {
			t.Errorf("got %q, %v; want %q", text, err, tt.want)
		}
	}
}
