package policy_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// marker is the secret in testdata: no error may show it.
const marker = "hunter2"

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const path = "testdata/refused.txtar"
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) < 300 || len(archive.Files)%2 != 0 {
		t.Fatalf("%s has %d files, want pairs of policy and error", path, len(archive.Files))
	}
	for i := 0; i < len(archive.Files); i += 2 {
		source, want := archive.Files[i], &archive.Files[i+1]
		name, isPolicy := strings.CutSuffix(source.Name, ".yml")
		if !isPolicy || want.Name != name+".err" {
			t.Fatalf("%s has %q and %q, want a policy and its error", path, source.Name, want.Name)
		}
		t.Run(name, func(t *testing.T) {
			_, err := policy.Parse("policy.yml", source.Data, catalog())
			if err == nil {
				t.Fatalf("it parses:\n%s", source.Data)
			}
			got := err.Error() + "\n"
			if golden.Update() {
				want.Data = []byte(got)
			}
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if strings.Contains(strings.ToLower(got), marker) {
				t.Errorf("the error shows a secret:\n%s", got)
			}
			if class := fault.ClassOf(err); class != fault.Usage {
				t.Errorf("class is %q, want %q", class, fault.Usage)
			}
		})
	}
	if golden.Update() {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParseRefusesFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, src, err string }{
		{"nothing", "", "parse policy \"p.yml\": 1 error\np.yml: is empty: a policy has `version` and `targets`"},
		{"binary", "version: 1\n\x00\x01\x02\n", "parse policy \"p.yml\": 3 errors\n" +
			"p.yml:2:1: U+0000 NULL: control characters are not allowed: remove it\n  \uFFFD\uFFFD\uFFFD\n  ^\n" +
			"p.yml:2:2: U+0001 START OF HEADING: control characters are not allowed: remove it\n  \uFFFD\uFFFD\uFFFD\n   ^\n" +
			"p.yml:2:3: U+0002 START OF TEXT: control characters are not allowed: remove it\n  \uFFFD\uFFFD\uFFFD\n    ^"},
		{"not UTF-8", "version: 1 # \xff\xfe\n", "parse policy \"p.yml\": 1 error\np.yml:1:14: is not valid UTF-8: byte 0xff is not part of a character\n  version: 1 # \uFFFD\uFFFD\n               ^"},
		{"UTF-16", "\xff\xfev\x00e\x00r\x00", "parse policy \"p.yml\": 1 error\np.yml:1:1: is not valid UTF-8: byte 0xff is not part of a character\n  \uFFFD\uFFFDv\uFFFDe\uFFFDr\uFFFD\n  ^"},
		{"a surrogate", "version: 1 # \xed\xa0\x80\n", "parse policy \"p.yml\": 1 error\np.yml:1:14: is not valid UTF-8: byte 0xed is not part of a character\n  version: 1 # \uFFFD\uFFFD\uFFFD\n               ^"},
		{"huge", strings.Repeat("# padding\n", 4<<20/10+1), "parse policy \"p.yml\": 1 error\np.yml: is 4194310 bytes long, want at most 4 MiB"},
		{"deep", "a: " + strings.Repeat("[", 20000), "parse policy \"p.yml\": 1 error\np.yml:1:10004: is nested more than 32 levels deep\n  … " +
			strings.Repeat("[", 80) + strings.Repeat("[", 78) + "…\n  " + strings.Repeat(" ", 82) + "^"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.Parse("p.yml", []byte(tt.src), catalog())
			if err == nil || err.Error() != tt.err {
				t.Errorf("error is\n%v\nwant\n%s", err, tt.err)
			}
		})
	}
}

// TestTwelveErrors: all of a policy's faults are reported at once, each at its place.
func TestTwelveErrors(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("testdata/twelve.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = policy.Parse("twelve.yml", src, catalog())
	if err == nil {
		t.Fatal("it parses")
	}
	places := 0
	for line := range strings.Lines(err.Error()) {
		if strings.HasPrefix(line, "twelve.yml:") {
			places++
		}
	}
	if places != 12 {
		t.Errorf("%d places, want 12", places)
	}
	golden.Compare(t, "testdata/twelve.err", err.Error()+"\n")
}

// TestLineBreaks: LF and CRLF end a line, so that the line which is shown is
// the one that is meant.
func TestLineBreaks(t *testing.T) {
	t.Parallel()
	for _, br := range []string{"\n", "\r\n"} {
		src := strings.Join([]string{"version: 1", "# a comment", "targets: {}", "tragets: {}", ""}, br)
		want := "parse policy \"p.yml\": 2 errors\np.yml:3:10: targets is empty\n  targets: {}\n           ^\n" +
			"p.yml:4:1: unknown key \"tragets\" in the policy, valid keys are [\"version\" \"requires\" \"start_jitter\" \"identities\" \"agents\" \"maps\" \"deny\" \"audit\" \"defaults\" \"targets\"]: did you mean \"targets\"?\n  tragets: {}\n  ^"
		if _, err := policy.Parse("p.yml", []byte(src), catalog()); err == nil || err.Error() != want {
			t.Errorf("with %q: error is\n%v\nwant\n%s", br, err, want)
		}
	}
}

func TestManyErrorsAreCut(t *testing.T) {
	t.Parallel()
	src := "version: 1\ntargets:\n  prod:\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: x}}\n    allow:\n" + strings.Repeat("      - {ref: main}\n", 1000)
	_, err := policy.Parse("p.yml", []byte(src), catalog())
	if err == nil {
		t.Fatal("it parses")
	}
	if got := err.Error(); !strings.HasPrefix(got, "parse policy \"p.yml\": 1000 errors\n") || !strings.HasSuffix(got, "\n… and 950 more") || len(got) > 16<<10 {
		t.Errorf("error has %d bytes, starts with %.60q", len(got), got)
	}
}

const example = `version: 1

identities:                 # who may ask. Left out: only github, with GitHub's public issuer
  github: {issuer: https://token.actions.githubusercontent.com}     # kind: github, known from the issuer
  engineers:                # people at a terminal, through the company's own identity provider
    issuer: https://acme.okta.com/oauth2/default
    kind: people
    client_id: 0oa1b2c3
    flow: device

targets:
  prod:
    dbt:                    # one output of profiles.yml as dbt documents it, without its secrets
      type: snowflake
      account: acme-prod
      user: DBT_PROD
      role: TRANSFORMER
      database: ANALYTICS
      warehouse: TRANSFORMING
      schema: marts
      threads: 8
    exchange:               # exactly one provider
      oidc: {audience: snowflakecomputing.com}
    allow:                  # rules: any of them; inside a rule: all of it
      - repository: acme/analytics
        repository_id: "487920697"
        environment: production
        ref: refs/heads/main
        event_name: [push, schedule, workflow_dispatch]
        job_workflow_ref: acme/platform/.github/workflows/dbt.yml@refs/tags/v3
    trust_reviewed: 2026-10-01   # older than 90 days: a warning in every run

  team:                     # one target for many repositories
    dbt: {type: bigquery, project: acme-dbt, dataset: "r${repository_id}"}
    exchange:
      gcp:
        workload_identity_provider: projects/123/locations/global/workloadIdentityPools/gh/providers/gh
        service_account: dbt-${environment}@acme-dbt.iam.gserviceaccount.com
    allow:
      - {repository_owner: acme, repository_id: ["101", "102"], environment: [staging, production], ref: refs/heads/main}
    lifetime: 1h            # what is asked for
    max_lifetime: 1h        # a longer one is refused
`

func TestParseTheExample(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse("policy.yml", []byte(example), catalog())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"prod", "team"}, p.Targets()); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	if w := p.Warnings(); len(w) > 0 {
		t.Errorf("warnings are %q, want none", w)
	}
	engineers, ok := p.Identity("engineers")
	want := policy.Identity{Name: "engineers", Issuer: "https://acme.okta.com/oauth2/default", Kind: "people", Audience: "0oa1b2c3", ClientID: "0oa1b2c3",
		Flow: "device"}
	if diff := cmp.Diff(want, engineers); !ok || diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if _, ok := p.Identity("missing"); ok {
		t.Error("there is an identity missing")
	}
	prod, err := p.Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	if prod.Name() != "prod" || prod.Provider() != "oidc" || prod.Audience() != "snowflakecomputing.com" || prod.Exchange().Get("audience") != "snowflakecomputing.com" {
		t.Errorf("target is %q by %q for %q", prod.Name(), prod.Provider(), prod.Audience())
	}
	if d := prod.DBT(); d.Type != "snowflake" || d.Output != "prod" || d.From != "" || len(d.Block.Content) != 16 {
		t.Errorf("dbt block is %+v", d)
	}
	if ids := prod.Identities(); len(ids) != 1 || ids[0].Name != "github" || ids[0].Kind != "github" {
		t.Errorf("identities are %+v", ids)
	}
	if sum := p.SHA256(); len(sum) != 64 {
		t.Errorf("SHA-256 is %q", sum)
	}
	_, err = p.Target("production")
	if err == nil || err.Error() != `unknown target "production", policy.yml has ["prod" "team"]` || fault.ClassOf(err) != fault.Usage {
		t.Errorf("error is %v (%s)", err, fault.ClassOf(err))
	}
}

// TestTargetsDoNotChange: a caller that edits what it got changes nothing for the next one.
func TestTargetsDoNotChange(t *testing.T) {
	t.Parallel()
	p := parse(t, example)
	target, err := p.Target("prod")
	if err != nil {
		t.Fatal(err)
	}
	target.DBT().Block.Content[1].Value = "evil"
	target.Exchange().List("audience")[0] = "evil"
	target.Identities()[0].Issuer = "evil"
	if target.DBT().Block.Content[1].Value != "snowflake" || target.Exchange().Get("audience") != "snowflakecomputing.com" || target.Identities()[0].Issuer != "https://token.actions.githubusercontent.com" {
		t.Error("the policy was changed through its accessors")
	}
}

func parse(t testing.TB, src string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yml", []byte(src), catalog())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestParseAccepts holds what must stay possible.
func TestParseAccepts(t *testing.T) {
	t.Parallel()
	const snowflake = "targets: {prod: {dbt: {type: snowflake, account: acme}, exchange: {oidc: {audience: x}}, allow: ["
	for _, tt := range []struct{ name, src string }{
		{"byte order mark", "\ufeffversion: 1\n" + snowflake + `{repository_id: "1"}]}}`},
		{"JSON", `{"version": 1, "targets": {"prod": {"exchange": {"aws": {"role": "arn:aws:iam::123456789012:role/dbt", "region": "x"}}, "allow": [{"repository_id": "1"}]}}}`},
		{"flow over lines with tabs", "version: 1\ntargets: {prod: {\n\tdbt: {type: snowflake, account: acme},\n\texchange: {oidc: {audience: x}}, allow: [{repository_id: \"1\"}]}}\n"},
		{"what is no regular expression", "version: 1\n" + snowflake + `{repository_id: "1", workflow: "Build (prod|stg)?", repo_property_price: "100$", actor: "dependabot[bot]", ref: ["refs/tags/v1.*", "refs/heads/fix(x)"], environment: ["C++", "a (b) [c] $5"]}]}}`},
		{"any claim", "version: 1\n" + snowflake + `{repository_id: "1", repo_property_tier: gold, check_run_id: "7", enterprise_id: "2", runner_environment: self-hosted, ref_protected: "true", actor_kind: [user, bot]}]}}`},
		{"wildcards behind a literal owner", "version: 1\n" + snowflake + `{repository: acme/*, job_workflow_ref: "acme/platform/.github/workflows/*.yml@refs/tags/v*"}]}}`},
		{"workflow at a commit", "version: 1\n" + snowflake + `{repository_owner: acme, job_workflow_ref: acme/platform/.github/workflows/dbt.yml@7f93c5e6a1b20d4f8e9c3a5b7d1f2e4c6a8b0d2f}]}}`},
		{"no type for a file", "version: 1\ntargets: {prod: {dbt: {from: profiles/profiles.yml, output: prod}, exchange: {oidc: {audience: x}}, allow: [{repository_id: \"1\"}]}}"},
		{"credentials only", "version: 1\ntargets: {lake: {exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: x, then_assume: {role: \"arn:aws:iam::123456789012:role/lake\"}}}, allow: [{repository_id: \"1\"}], lifetime: 15m, max_lifetime: 1d}}"},
		{"Jinja where dbt chooses no server", "version: 1\ntargets: {prod: {dbt: {type: snowflake, account: acme, schema: \"{{ env_var('SCHEMA') }}\", client_request_mfa_token: true}, exchange: {oidc: {audience: x}}, allow: [{repository_id: \"1\"}]}}"},
		{"claims that every rule names", "version: 1\ntargets: {prod: {dbt: {type: duckdb, path: \"s3://acme-${environment}/x.duckdb\", schema: \"pr_${pull_number}\"}, exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt-${environment}\", region: x}}, allow: [{repository_id: \"1\", environment: ci, event_name: pull_request, ref: refs/pull/*/merge}, {repository_id: \"2\", environment: ci, event_name: pull_request, pull_number: \"7\"}]}}"},
		{"a switch", "version: 1\ntargets: {lake: {exchange: {gcp: {workload_identity_provider: p, static: true}}, allow: [{repository_id: \"1\"}]}, bay: {exchange: {gcp: {workload_identity_provider: p, static: false}}, allow: [{repository_id: \"2\"}]}}"},
		{"agents", "version: 1\nagents: acme-agent\n" + snowflake + `{repository_id: "1"}]}}`},
		{"every kind", `version: 1
identities:
  github: {issuer: https://token.actions.githubusercontent.com/acme-enterprise}
  ghes: {issuer: https://ghes.acme.com/_services/token}
  residency: {issuer: https://token.actions.acme.ghe.com}
  gitlab: {issuer: https://gitlab.com}
  gitlab-people: {issuer: https://gitlab.com, kind: people, client_id: a, scopes: [openid, email]}
  gitlab-others: {issuer: https://gitlab.com, kind: people, client_id: b, flow: browser}
  circleci: {issuer: https://oidc.circleci.com/org/5c10b5e1-1f2b-4a8f-8e3e-8f2d2d6f0a11}
  buildkite: {issuer: https://agent.buildkite.com}
  azure: {issuer: https://vstoken.dev.azure.com/5c10b5e1-1f2b-4a8f-8e3e-8f2d2d6f0a11, audience: x}
  forge: {issuer: https://git.acme.com/api/actions, kind: forgejo}
  eks: {issuer: https://oidc.eks.eu-central-1.amazonaws.com/id/ABC0, source: {file: /var/run/secrets/oidc-dbt/token}}
  gke: {issuer: https://container.googleapis.com/v1/projects/acme/locations/europe-west3/clusters/dbt, jwks_file: keys.json}
  outbound: {issuer: https://5c10b5e1-1f2b-4a8f-8e3e-8f2d2d6f0a11.tokens.sts.global.api.aws}
  sso: {issuer: https://5c10b5e1-1f2b-4a8f-8e3e-8f2d2d6f0a11.tokens.sts.global.api.aws, kind: people, audience: oidc-dbt, aws_sso: {start_url: https://acme.awsapps.com/start, region: eu-central-1, account: "123456789012", role: Analyst}}
  vm: {kind: google}
  airflow: {issuer: https://issuer.acme.example, kind: workload, bind: [sub], ids: [sub], source: {command: [spire-agent, api, fetch, jwt, -audience, "{audience}"]}}
  cursor: {kind: cursor}
  claude: {kind: claude_code, issuer: ccr, audience: x, jwks_uri: https://keys.example/claude}
  oz: {kind: warp, issuer: https://oz.example, source: {command: [oz, federate, issue-token, --audience, "{audience}"]}}
  bitbucket: {issuer: https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc}
  cluster: {issuer: https://k8s.acme.com, kind: kubernetes, jwks_uri: https://k8s.acme.com/openid/v1/jwks}
  local: {issuer: http://127.0.0.1:8080, kind: github}
` + snowflake + `
  {repository_owner_id: "9919", job_workflow_ref: acme/p/.github/workflows/dbt.yml@refs/tags/v3},
  {identity: ghes, repository: acme/analytics, repository_id: "1"}, {identity: residency, repository_id: "1"},
  {identity: gitlab, project_id: "7"}, {identity: gitlab, namespace_id: "3", ci_config_ref_uri: gitlab.com/acme/ci//.gitlab-ci.yml@refs/heads/main},
  {identity: gitlab, project_path: acme/*, namespace_id: "3", ci_config_ref_uri: gitlab.com/acme/ci//dbt.yml@refs/heads/*},
  {identity: gitlab-people, sub: "7", email: ann@acme.com}, {identity: gitlab-others, groups: [data, platform]},
  {identity: circleci, oidc.circleci.com/project-id: 5c10b5e1}, {identity: buildkite, pipeline_id: a}, {identity: buildkite, organization_id: a, pipeline_slug: dbt},
  {identity: azure, prj_id: a, def_id: "7"}, {identity: bitbucket, repositoryUuid: "{5c10b5e1}"}, {identity: cluster, kubernetes.io>serviceaccount>uid: a},
  {identity: forge, repository_id: "1"}, {identity: eks, sub: "system:serviceaccount:dbt:runner", kubernetes.io>serviceaccount>uid: a},
  {identity: gke, kubernetes.io>serviceaccount>uid: a}, {identity: outbound, sub: "arn:aws:iam::123456789012:role/dbt"},
  {identity: sso, "https://sts.amazonaws.com/>identity_store_user_id": a}, {identity: vm, sub: "117"}, {identity: airflow, sub: "spiffe://acme/dbt"},
  {identity: cursor, team_id: "5"}, {identity: claude, act>sub: "user:7"}, {identity: oz, sub: a},
  {identity: local, repository_id: "1"}]}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := parse(t, tt.src).Warnings()
			w = slices.DeleteFunc(w, func(w string) bool {
				return strings.Contains(w, " only the repository: ") || strings.Contains(w, "always have the audience") // most are as short as may be
			})
			if len(w) > 0 && tt.name != "wildcards behind a literal owner" && tt.name != "workflow at a commit" {
				t.Errorf("warnings are %q, want none", w)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	p := parse(t, `version: 1
identities:
  github: {issuer: https://token.actions.githubusercontent.com}
  buildkite: {issuer: https://agent.buildkite.com}
targets:
  one:
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt", region: x}}
    allow:
      - {repository: acme/analytics}
      - {repository: acme/analytics, repository_id: "1"}
      - {repository: acme/analytics, sub: "repo:acme@9919/analytics@1:environment:prod"}
  two:
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt", region: x}}
    allow:
      - {repository: [acme/a, acme/b], repository_id: "4*"}
      - {repository_owner: acme, job_workflow_ref: acme/p/.github/workflows/dbt.yml@refs/tags/v3}
      - {repository: acme/analytics, sub: "repo:acme@*/analytics@1:environment:prod"}
  three:
    exchange: {aws: {role: "arn:aws:iam::123456789012:role/dbt", region: x}}
    allow:
      - {identity: buildkite, organization_slug: acme, pipeline_slug: dbt}
`)
	const open = "only the repository: anyone who may push a branch to it gets in: add a literal environment, a literal ref or job_workflow_ref"
	want := []string{
		`target "one": rule 1 (line 9) binds by name only: anyone who takes the name once it is given up gets in: add repository_id or repository_owner_id`,
		`target "one": rules 1 (line 9), 2 (line 10) restrict ` + open,
		`target "two": rules 1 (line 15), 2 (line 16), 3 (line 17) bind by name only: anyone who takes the name once it is given up gets in: add repository_id or repository_owner_id`,
		`target "two": rule 1 (line 15) restricts ` + open,
		`target "three": rule 1 (line 21) binds by name only: anyone who takes the name once it is given up gets in: add pipeline_id or organization_id`,
	}
	if diff := cmp.Diff(want, p.Warnings()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestStarterParses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		env    map[string]string
		issuer string
	}{
		{"no variables", nil, "https://token.actions.githubusercontent.com"},
		{"public", map[string]string{"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/analytics", "GITHUB_REPOSITORY_ID": "487920697", "GITHUB_REF": "refs/heads/x\"}\n#"}, "https://token.actions.githubusercontent.com"},
		{"pull request", map[string]string{"GITHUB_REPOSITORY": "acme/analytics", "GITHUB_REF": "refs/pull/7/merge"}, "https://token.actions.githubusercontent.com"},
		{"enterprise server", map[string]string{"GITHUB_SERVER_URL": "https://ghes.acme.com"}, "https://ghes.acme.com/_services/token"},
		{"data residency", map[string]string{"GITHUB_SERVER_URL": "https://acme.ghe.com"}, "https://token.actions.acme.ghe.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := policy.Starter(func(name string) string { return tt.env[name] })
			if strings.Contains(tt.env["GITHUB_REF"], "\n") {
				// What no branch can be called stays inside its quotes, and is refused there.
				_, err := policy.Parse("starter", []byte(src), catalog())
				if err == nil || !strings.HasPrefix(err.Error(), "parse policy \"starter\": 1 error\nstarter:17:14: ref \"refs/heads/x\\\"}\\n#\" contains a control character") {
					t.Errorf("error is %v", err)
				}
				return
			}
			p := parse(t, src)
			if id, _ := p.Identity("github"); id.Issuer != tt.issuer || id.Kind != "github" {
				t.Errorf("identity is %+v, want issuer %q", id, tt.issuer)
			}
			if tt.env["GITHUB_REF"] == "refs/pull/7/merge" && !strings.Contains(src, `ref: "refs/heads/main"`) {
				t.Errorf("the starter admits a pull request's ref:\n%s", src)
			}
		})
	}
}

func TestTestdataIsUsed(t *testing.T) {
	t.Parallel()
	known := []string{"denials.txtar", "fuzz", "refused.txtar", "twelve.err", "twelve.yml"}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(known, e.Name()) {
			t.Errorf("testdata/%s is used by no test", e.Name())
		}
	}
}

// TestCustomizedSubjects: what follows the environment in a subject may be
// further claims, and is then no part of its name.
func TestCustomizedSubjects(t *testing.T) {
	t.Parallel()
	for sub, ok := range map[string]bool{
		"repo:acme/analytics:environment:prod":                                                                true,
		"repo:acme/analytics:environment:prod%3Aeu":                                                           true,
		"repo:acme/analytics:environment:prod:job_workflow_ref:acme/p/.github/workflows/dbt.yml@refs/tags/v3": true,
		"repo:acme/analytics:environment:prod:context:environment:repository_visibility:private":              true,
		"repo:acme/analytics:environment:prod:repo_property_team:data":                                        true,
		"repo:acme/analytics:environment:prod:*":                                                              true,
		"repo:acme/analytics:environment:prod:eu":                                                             false,
		"repo:acme/analytics:environment:prod:eu:west":                                                        false,
		"repo:acme/analytics:environment:prod:actor_kind:user":                                                false,
		"repo:acme/analytics:environment:prod:job_workflow_ref":                                               false,
	} {
		_, err := policy.Parse("policy.yml", []byte("version: 1\ntargets:\n  prod:\n    dbt: {type: snowflake, account: acme-prod, user: DBT, schema: marts}\n    exchange:\n      oidc: {audience: snowflakecomputing.com}\n    allow:\n      - {repository_id: \"1\", sub: \""+sub+"\"}\n"), catalog())
		if (err == nil) != ok {
			t.Errorf("%s: %v", sub, err)
		}
	}
}
