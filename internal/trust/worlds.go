package trust

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// worlds returns the forms of the tokens that a provider may be shown: those of
// each issuer that the rules name.
func (d Demand) worlds() (list []logic.World) {
	var seen []string
	for _, r := range d.Rules {
		if slices.Contains(seen, r.Identity.Issuer) {
			continue
		}
		seen = append(seen, r.Identity.Issuer)
		if r.Identity.Kind == "github" {
			list = append(list, githubWorlds(r.Identity.Issuer, d.Options.SubTemplate)...)
			continue
		}
		list = append(list, logic.World{Fixed: map[string]string{"iss": r.Identity.Issuer}, Always: alwaysOf(r.Identity.Kind)})
	}
	return list
}

// strangers are the forms of the tokens that trust asks about and that no rule
// is about: those of other issuers.
func (d Demand) strangers(admits logic.Formula) (list []logic.World) {
	for _, issuer := range admits.Literals("iss") {
		switch {
		case issuer == "" || d.trusts(issuer):
		case d.github(issuer):
			list = append(list, githubWorlds(issuer, d.Options.SubTemplate)...)
		default:
			list = append(list, logic.World{Fixed: map[string]string{"iss": issuer}, Always: alwaysOf("")})
		}
	}
	return list
}

// alwaysOf are claims that every token of another kind than GitHub's has.
// (GitLab: ID token payload; CircleCI: OpenID Connect tokens)
func alwaysOf(kind string) []string {
	always := []string{"sub", "aud"}
	switch kind {
	case "gitlab":
		always = append(always, "namespace_id", "namespace_path", "project_id", "project_path", "user_id", "user_login", "pipeline_id",
			"pipeline_source", "job_id", "ref", "ref_type", "ref_protected")
	case "circleci":
		always = append(always, "oidc.circleci.com/project-id", "oidc.circleci.com/org-id")
	}
	return always
}

// githubAlways are claims that every token of GitHub's has. (GitHub: OpenID
// Connect reference)
var githubAlways = []string{
	"aud", "sub", "actor", "actor_id", "base_ref", "check_run_id", "event_name", "head_ref", "job_workflow_ref", "job_workflow_sha",
	"ref", "ref_protected", "ref_type", "repository", "repository_id", "repository_owner", "repository_owner_id",
	"repository_visibility", "run_attempt", "run_id", "run_number", "runner_environment", "sha", "workflow",
	"workflow_ref", "workflow_sha",
}

const printables = `\p{Cc}\x{2028}\x{2029}`

var (
	ownerDomain    = whole(`[A-Za-z0-9][A-Za-z0-9-]*`)
	repoDomain     = whole(`[A-Za-z0-9._-]+`)
	numberDomain   = whole(`[1-9][0-9]*`)
	environDomain  = whole(`[^:` + printables + `]+`)
	refName        = `[^:~^?*\[\\ ` + printables + `]+`
	workflowDomain = whole(`[A-Za-z0-9-]+/[A-Za-z0-9._-]+/\.github/workflows/[^@/` + printables +
		`]+@(?:refs/(?:heads|tags)/` + refName + `|[0-9a-f]{40})`)
	githubDomains = map[string]logic.Language{
		"actor":    whole(`[A-Za-z0-9-]+(?:_[A-Za-z0-9]+)?(?:\[bot\])?`), // `_` is before a managed user's short code
		"actor_id": numberDomain, "run_id": numberDomain, "job_workflow_ref": workflowDomain,
		"ref_protected": whole("true|false"), "runner_environment": whole("github-hosted|self-hosted"),
		"repository_visibility": whole("public|private|internal"), "enterprise_id": numberDomain,
	}
)

// pullEvents are those whose subject is `…:pull_request` without an environment.
const pullEvent = "pull_request"

// A refWorld is refs of one form, and the events that they come with.
type refWorld struct{ ref, refType, events string }

// githubWorlds returns the forms of GitHub's tokens: by ref and event, with an
// environment or without, with ids in the subject or without.
func githubWorlds(issuer string, template []string) (list []logic.World) {
	refs := []refWorld{
		{`refs/heads/` + refName, "branch", eventsOn("refs/heads/")},
		{`refs/tags/` + refName, "tag", eventsOn("refs/tags/")},
		{`refs/pull/[1-9][0-9]*/merge`, "branch", pullEvent},
		{`refs/pull/[1-9][0-9]*/merge`, "branch", eventsOn("refs/pull/")},
		{`refs/heads/` + refName, "branch", pullEvent},
	}
	for _, ref := range refs {
		for _, environment := range []bool{true, false} {
			for _, ids := range []bool{false, true} {
				list = append(list, githubWorld(issuer, ref, environment, ids, template))
			}
		}
	}
	return list
}

// eventsOn is the expression of the events whose refs begin so, but for pull_request.
func eventsOn(prefix string) string {
	var names []string
	for _, event := range policy.KnownEvents() {
		refs := policy.RefsOf(event)
		if event != pullEvent && (refs == nil || slices.ContainsFunc(refs, func(r string) bool { return strings.HasPrefix(r, prefix) })) {
			names = append(names, event)
		}
	}
	return strings.Join(names, "|")
}

// githubWorld is one form. Its word has the claims that the subject is made of,
// and the workflow's path, which begins with the repository.
func githubWorld(issuer string, ref refWorld, environment, ids bool, template []string) logic.World {
	w := &wordBuilder{places: map[string]int{}, domains: map[string]logic.Language{
		"ref": whole(ref.ref), "environment": environDomain, "event_name": whole(ref.events),
	}}
	if len(template) == 0 {
		template = []string{"repo", "context"}
	}
	w.text("repo:", "sub") // the word begins with the repository in any case: another key's text is put in front
	w.word.Segments = nil
	for i, key := range template {
		sep := ":"
		if i == 0 {
			sep = ""
		}
		switch key {
		case "repo":
			w.text(sep+"repo:", "sub")
			w.repository(ids)
		case "context":
			w.context(sep, ref, environment)
		default:
			w.text(sep+key+":", "sub")
			w.claim(key, githubDomains[key], "sub", key)
		}
	}
	if !slices.Contains(template, "repo") {
		w.repositoryAlone()
	}
	w.claim("", whole(`/\.github/workflows/[^@/`+printables+`]+@`+refName), "workflow_ref")
	world := logic.World{
		Fixed: map[string]string{"iss": issuer, "ref_type": ref.refType}, Words: []logic.Word{w.word},
		Always: githubAlways, Domain: map[string]logic.Language{},
	}
	for name, domain := range githubDomains {
		world.Domain[name] = domain
	}
	for _, name := range []string{"ref", "event_name"} {
		world.Domain[name] = w.domains[name]
	}
	for _, name := range []string{"repository_id", "repository_owner_id"} {
		world.Domain[name] = numberDomain
	}
	if _, ok := w.places["environment"]; !ok {
		if environment {
			world.Domain["environment"] = environDomain
			world.Always = append(slices.Clone(world.Always), "environment")
		} else {
			world.Absent = []string{"environment"}
		}
	}
	return world
}

type wordBuilder struct {
	word    logic.Word
	places  map[string]int
	domains map[string]logic.Language
}

func (w *wordBuilder) in(claims []string) (places []int) {
	for _, c := range claims {
		i, ok := w.places[c]
		if !ok {
			i = len(w.word.Claims)
			w.places[c] = i
			w.word.Claims = append(w.word.Claims, c)
		}
		places = append(places, i)
	}
	return places
}

func (w *wordBuilder) text(text string, claims ...string) {
	w.word.Segments = append(w.word.Segments, logic.Segment{Domain: logic.Literal(text), In: w.in(claims)})
}

// claim adds a piece: any text of the claim's own domain, or the one given.
func (w *wordBuilder) claim(name string, domain logic.Language, claims ...string) {
	if own, ok := w.domains[name]; ok {
		domain = own
	}
	if domain.String() == "" {
		domain = environDomain
	}
	w.word.Segments = append(w.word.Segments, logic.Segment{Domain: domain, In: w.in(claims)})
}

func (w *wordBuilder) repository(ids bool) {
	w.claim("", ownerDomain, "sub", "repository_owner", "repository", "workflow_ref")
	if ids {
		w.text("@", "sub")
		w.claim("", numberDomain, "sub", "repository_owner_id")
	}
	w.text("/", "sub", "repository", "workflow_ref")
	w.claim("", repoDomain, "sub", "repository", "workflow_ref")
	if ids {
		w.text("@", "sub")
		w.claim("", numberDomain, "sub", "repository_id")
	}
}

func (w *wordBuilder) repositoryAlone() {
	w.claim("", ownerDomain, "repository_owner", "repository", "workflow_ref")
	w.text("/", "repository", "workflow_ref")
	w.claim("", repoDomain, "repository", "workflow_ref")
}

func (w *wordBuilder) context(sep string, ref refWorld, environment bool) {
	switch {
	case environment:
		w.text(sep+"environment:", "sub")
		w.claim("environment", environDomain, "sub", "environment")
	case ref.events == pullEvent:
		w.text(sep+pullEvent, "sub")
	default:
		w.text(sep+"ref:", "sub")
		w.claim("ref", environDomain, "sub", "ref")
	}
}
