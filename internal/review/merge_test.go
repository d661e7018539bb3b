package review_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestMerge: how the last change of a rule came to the branch, by what forges write into commits.
func TestMerge(t *testing.T) {
	t.Parallel()
	one, two := source("prod", first), source("prod", first+"\n"+other)
	three := source("prod", first+"\n"+other, "staging", first)
	// merged is a policy of Ada's to which Bob's rule came by a merge.
	merged := func(message string) func(*repository) {
		return func(r *repository) {
			r.commit("Ada", one)
			r.branch("main", "topic", func() { r.commit("Bob", two) })
			r.merge("Eve", "topic", message)
		}
	}
	squashed := func(message string) func(*repository) {
		return func(r *repository) {
			r.commit("Ada", one)
			r.commitSaying("Bob", two, message)
		}
	}
	for _, tt := range []struct {
		name    string
		history func(*repository)
		want    string // of rule 2 of prod: pull request, who merged, reviewers
	}{
		{"a commit", squashed("add shop"), `"" "" []`},
		{"a merge of a branch", merged("Merge branch 'topic'"), `"" "Eve" []`},
		{"GitHub's merge", merged("Merge pull request #12 from acme/topic\n\nAdd shop"), `"#12" "Eve" []`},
		{"Bitbucket Server's merge", merged("Merge pull request #13 in ACME/policies from topic to main"), `"#13" "Eve" []`},
		{"Bitbucket's merge", merged("Merged in topic (pull request #14)\n\nAdd shop\n\nApproved-by: Ann Lee <ann@acme.example>\nApproved-by: Tim"),
			`"#14" "Eve" ["Ann Lee" "Tim"]`},
		{"Azure's merge", merged("Merged PR 15: Add shop"), `"#15" "Eve" []`},
		{"GitLab's merge", merged("Merge branch 'topic' into 'main'\n\nAdd shop\n\nSee merge request acme/data/policies!16"),
			`"acme/data/policies!16" "Eve" []`},
		{"GitHub's squash", squashed("Add shop (#17)\n\n* one\n\nReviewed-by: Ann <ann@acme.example>\nReviewed-by: <tim@acme.example>"),
			`"#17" "" ["Ann" "tim@acme.example"]`},
		{"a pull request that was ported", squashed("Add shop (#17) (#18)"), `"#18" "" []`},
		{"Azure's squash", squashed("Merged PR 19: Add shop"), `"#19" "" []`},
		{"another committer", func(r *repository) {
			r.commit("Ada", one)
			r.as = []string{"GIT_COMMITTER_NAME=Eve", "GIT_COMMITTER_EMAIL=eve@acme.example"}
			r.commit("Bob", two)
		}, `"" "Eve" []`},
		{"GitHub's pages as committer", func(r *repository) {
			r.commit("Ada", one)
			r.as = []string{"GIT_COMMITTER_NAME=GitHub", "GIT_COMMITTER_EMAIL=noreply@github.com"}
			r.commit("Bob", two)
		}, `"" "" []`},
		{"reviewers of the commit and of its merge", func(r *repository) {
			r.commit("Ada", one)
			r.branch("main", "topic", func() { r.commitSaying("Bob", two, "add shop\n\nReviewed-by: Tim\nReviewed-by: Ann <a@acme.example>") })
			r.merge("Eve", "topic", "Merge pull request #20 from acme/topic\n\nApproved-by: Ann <ann@acme.example>")
		}, `"#20" "Eve" ["Ann" "Tim"]`},
		{"a branch of a branch", func(r *repository) {
			r.commit("Ada", one)
			r.branch("main", "topic", func() {
				r.branch("topic", "part", func() { r.commit("Bob", two) })
				r.merge("Tim", "part", "Merge pull request #21 from acme/part")
			})
			r.merge("Eve", "topic", "Merge pull request #22 from acme/topic")
		}, `"#22" "Eve" []`},
		{"a branch that took the branch in", func(r *repository) {
			r.commit("Ada", one)
			r.branch("main", "topic", func() { r.commit("Bob", two) })
			r.commit("Ada", "# a comment\n"+one)
			r.git("checkout", "-q", "topic")
			r.merge("Bob", "main", "Merge branch 'main' into topic")
			r.git("checkout", "-q", "main")
			r.merge("Eve", "topic", "Merge pull request #23 from acme/topic")
		}, `"#23" "Eve" []`},
		{"a later merge of something else", func(r *repository) {
			merged("Merge pull request #24 from acme/topic")(r)
			r.branch("main", "later", func() { r.commit("Tim", three) })
			r.merge("Tim", "later", "Merge pull request #25 from acme/later")
		}, `"#24" "Eve" []`},
		{"a merge that changed it", func(r *repository) {
			r.commit("Ada", one)
			r.branch("main", "topic", func() { r.commit("Bob", source("prod", first, "staging", first)) })
			r.day++
			r.git("-c", "user.name=Eve", "merge", "-q", "--no-ff", "--no-commit", "topic")
			r.commitSaying("Eve", three, "Merge pull request #26 from acme/topic")
		}, `"#26" "Eve" []`},
		{"a number that is not the title's", squashed("Revert what (#27) did\n\nfor (#28)"), `"" "" []`},
		{"no numbers", squashed("Merged PR x: y\n\nSee merge request !\nMerge pull request #29"), `"" "" []`},
		{"hostile names", func(r *repository) {
			r.commit("Ada", one)
			r.branch("main", "topic", func() { r.commit("Bob", two) })
			r.merge("\u202e=1", "topic", "Merge pull request #30 from acme/topic\n\nReviewed-by: "+strings.Repeat("é", 100)+"\nReviewed-by: \x1b[31m<x>")
		}, "\"#30\" \"\uFFFD=1\" [\"" + strings.Repeat("é", 80) + "…\" \"\uFFFD[31m\"]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRepository(t)
			tt.history(r)
			m := r.access(nil).Lines[1].Changed.Merge
			if got := fmt.Sprintf("%q %q %q", m.PullRequest, m.By, m.Reviewers); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestMergeHasFewReviewers: a message cannot fill a cell.
func TestMergeHasFewReviewers(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	var trailers strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&trailers, "Reviewed-by: %d\n", i)
	}
	r.commitSaying("Ada", source("prod", first), "add the policy\n\n"+trailers.String())
	if got := len(r.access(nil).Lines[0].Changed.Merge.Reviewers); got != 20 {
		t.Errorf("got %d reviewers, want 20", got)
	}
}

// branch does something on a new branch of another, which it then returns to.
func (r *repository) branch(of, name string, do func()) {
	r.t.Helper()
	r.git("checkout", "-q", "-b", name)
	do()
	r.git("checkout", "-q", of)
}

// merge merges a branch into the one that is checked out.
func (r *repository) merge(author, branch, message string) {
	r.t.Helper()
	r.day++
	r.git("-c", "user.name="+author, "merge", "-q", "--no-ff", "-m", message, branch)
}
