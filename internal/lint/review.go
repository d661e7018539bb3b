package lint

import "time"

const day = 24 * time.Hour

var reviewDue = check{
	name:     "review-due",
	severity: Warning,
	meaning:  "A target's trust was last reviewed more than 90 days ago, or longer ago than `trust_max_age`.",
	find: func(in *files, found report) {
		in.eachTarget(func(t target) {
			reviewed := t.TrustReviewed()
			age := in.now.Sub(reviewed)
			if reviewed.IsZero() || age <= t.ReviewAge() {
				return
			}
			found(t.at(t.find("trust_reviewed")), "review who may use it, and set trust_reviewed to today",
				"the trust of target %q was reviewed on %s, %d days ago: a review is due every %d days",
				t.Name(), reviewed.Format(time.DateOnly), age/day, t.ReviewAge()/day)
		})
	},
}
