package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/login"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/runner"
)

// approvals are the policies that a person has approved, by their paths.
type approvals struct {
	Version  int                 `json:"version"`
	Policies map[string]approval `json:"policies"`
}

// An approval is of one content of a policy, and of the hosts that what follows
// from it is sent to: those of `from:` are not in the policy itself.
type approval struct {
	SHA256 string   `json:"sha256"`
	Hosts  []string `json:"hosts"`
}

// maxApprovals bounds the file: an approval takes about 200 bytes.
const maxApprovals = 1 << 20

// inlineName is the path of a policy that is no file.
const inlineName = "(inline)"

func approvalsFile(s Settings) string { return filepath.Join(s.StateDir, "approved.json") }

func readApprovals(s Settings) (list approvals, err error) {
	list = approvals{Version: 1, Policies: map[string]approval{}}
	if s.StateDir == "" {
		return list, nil
	}
	path := approvalsFile(s)
	text, err := disk.ReadOwn(path, maxApprovals)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err == nil && (json.Unmarshal(text, &list) != nil || list.Version != 1 || list.Policies == nil) {
		err = errors.New("it is damaged")
	}
	if err != nil {
		return list, fault.New(fault.NoIdentity, fmt.Errorf("read the approved policies %q: %w", path, disk.Cause(err)),
			"remove the file, and approve your policies again: oidc-dbt approve")
	}
	return list, nil
}

// place is the path that an approval is for: two names of a file are one.
func (a *attempt) place() string {
	if a.settings.inlinePolicy() {
		return inlineName
	}
	path := a.settings.Path(a.policy.File())
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return filepath.Clean(path)
}

// needsApproval reports whether a person must have read the policy before an
// identity's tokens are obtained by it: a person's own always; at a terminal
// those of every source, where the file was not named but found.
func (a *attempt) needsApproval(id policy.Identity) bool {
	if id.Kind == "people" {
		return true
	}
	ci := a.settings.job.Kind != "" || policy.LikeGitHub(id.Kind) && id.Source.IsZero()
	return a.settings.SearchUpwards && !a.settings.inlinePolicy() && !ci
}

// approved returns an error of class NoIdentity where an identity's tokens need
// an approval that the policy does not have. Nothing has been asked for by then.
func (a *attempt) approved(ctx context.Context, id policy.Identity) error {
	if !a.needsApproval(id) {
		return nil
	}
	list, err := readApprovals(a.settings)
	if err != nil {
		return err
	}
	have, ok := list.Policies[a.place()]
	switch {
	case !ok:
		return a.unapproved(ctx, "is not approved")
	case have.SHA256 != a.policy.SHA256():
		return a.unapproved(ctx, "has changed since you approved it")
	}
	a.hosts = have.Hosts
	return nil
}

// approvedHosts returns an error where a target sends what it gets to a host
// that was not shown when the policy was approved.
func (a *attempt) approvedHosts(ctx context.Context) error {
	if !a.needsApproval(a.source.Identity()) {
		return nil
	}
	for _, host := range receivers(a.target, a.project) {
		if !slices.Contains(a.hosts, host) {
			return a.unapproved(ctx, fmt.Sprintf("was approved before target %q went to host %q", a.target.Name(), host))
		}
	}
	return nil
}

func (a *attempt) unapproved(ctx context.Context, why string) error {
	lines := []string{"read it, then run `oidc-dbt approve" + a.settings.policyFlag() + "`. By this policy"}
	for _, id := range a.policy.Identities() {
		lines = append(lines, "  identity "+id.Name+": "+obtains(id))
	}
	for _, r := range a.receivers(ctx) {
		lines = append(lines, "  target "+r.Target+" sends tokens to "+r.describe())
	}
	for _, place := range a.policy.Audit().Places() {
		lines = append(lines, "  audit records go to "+place)
	}
	return fault.New(fault.NoIdentity, fmt.Errorf("policy %q %s", a.place(), why), strings.Join(lines, "\n"))
}

// obtains says on one line where an identity's tokens come from.
func obtains(id policy.Identity) string { return runner.OneLine(obtaining(id)) }

func obtaining(id policy.Identity) string {
	switch s := id.Source; {
	case len(s.Command) > 0:
		return fmt.Sprintf("runs %q", s.Command)
	case s.Env != "":
		return "reads the variable " + s.Env
	case s.File != "":
		return fmt.Sprintf("reads the file %q", s.File)
	case s.UnixSocket != "":
		return "asks the socket of " + s.UnixSocket
	case id.AWSSSO != nil:
		return fmt.Sprintf("signs you in at %s (%s) for the role %s of account %s", id.AWSSSO.StartURL,
			strings.Join(login.AWSHosts(*id.AWSSSO), ", "), id.AWSSSO.Role, id.AWSSSO.Account)
	case id.Kind == "people":
		return fmt.Sprintf("signs you in at %s as client %q", id.Issuer, id.ClientID)
	}
	return fmt.Sprintf("takes tokens of %s (kind %s)", id.Issuer, id.Kind)
}

// takeBlock reads what the policy's block says of the warehouse, where there is no project around it.
func (p *project) takeBlock(t *policy.Target) {
	dbt := t.DBT()
	if w, err := adapter.Warehouse(dbt.Type, t.Provider(), dbt.Block); err == nil {
		p.warehouse = w
	}
	if r, err := routeOf(t, dbt.Type, dbt.Block); err == nil {
		p.route = r
	}
}

// A Receiver is who gets the tokens of one target.
type Receiver struct {
	Target, Provider string
	Hosts            []string
	Problem          string // why the hosts are not all known
}

func (r Receiver) describe() string {
	text := strings.Join(r.Hosts, ", ")
	if text == "" {
		text = "no host that the policy names"
	}
	if r.Problem != "" {
		text += " (" + r.Problem + ")"
	}
	return runner.OneLine(text + " (" + r.Provider + ")")
}

// receivers returns those of every target.
func (a *attempt) receivers(ctx context.Context) (list []Receiver) {
	for _, name := range a.policy.Targets() {
		t, err := a.policy.Target(name)
		if err != nil {
			continue // it is the policy's own
		}
		r := Receiver{Target: name, Provider: t.Provider()}
		p, err := readProject(ctx, a.env, a.settings, t)
		if err != nil && t.DBT().From != "" {
			r.Problem = "and to what profiles.yml says, which cannot be read here: " + err.Error()
		} else if err != nil && t.DBT().Block != nil {
			p.takeBlock(t)
		}
		r.Hosts = receivers(t, p)
		list = append(list, r)
	}
	return list
}

// receivers returns the hosts that get a target's ID token or credential.
func receivers(t *policy.Target, p project) (hosts []string) {
	add := func(host string) {
		if host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	addresses := provider.Endpoints(t.Provider(), t.Exchange(), p.warehouse)
	if t.Provider() == "login" { // its endpoint is what the issuer's own document says
		for _, id := range t.Identities() {
			address := id.Issuer
			if id.AWSSSO != nil {
				address = "https://portal.sso." + id.AWSSSO.Region + ".amazonaws.com"
			}
			addresses = append(addresses, address)
		}
	}
	for _, address := range addresses {
		if u, err := url.Parse(address); err == nil {
			add(u.Host)
		}
	}
	for _, at := range []struct {
		host string
		port int
	}{{p.warehouse.Host, p.warehouse.Port}, {p.route.Upstream.Host, p.route.Upstream.Port}} {
		if at.host != "" && at.port != 0 {
			at.host = net.JoinHostPort(at.host, strconv.Itoa(at.port))
		}
		add(at.host)
	}
	for _, host := range p.named(t.DBT()) {
		if !slices.ContainsFunc(hosts, func(other string) bool { return strings.HasPrefix(other, host+":") }) {
			add(host)
		}
	}
	return hosts
}

// named returns the hosts that the dbt outputs name under any key: an object
// store's, say, whose client sends the credential there.
func (p *project) named(dbt policy.DBT) (hosts []string) {
	for _, b := range p.blocksOf(dbt) {
		hosts = append(hosts, hostsOf("", b)...)
	}
	return hosts
}

var (
	// addressKey matches the keys whose value is a host: by their last word.
	addressKey = lazy.MustCompile(`(?i)(?:^|[._-])(?:host|hostname|hostaddr|server|endpoint|url|uri)$`)
	// webAddress matches an address within any text, such as a connection string.
	webAddress = lazy.MustCompile(`(?i)https?://([^/?#\s'";,]+)`)
)

// hostsOf returns the hosts that a value of a key names, or those within it.
func hostsOf(key string, n *yaml.Node) (hosts []string) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			hosts = append(hosts, hostsOf(n.Content[i].Value, n.Content[i+1])...)
		}
	case yaml.SequenceNode:
		for _, e := range n.Content {
			hosts = append(hosts, hostsOf(key, e)...)
		}
	case yaml.AliasNode:
		return hostsOf(key, n.Alias)
	case yaml.ScalarNode:
		found := webAddress.FindAllStringSubmatch(n.Value, -1)
		for _, m := range found {
			hosts = append(hosts, m[1][strings.LastIndexByte(m[1], '@')+1:])
		}
		if host, _, _ := strings.Cut(n.Value, "/"); len(found) == 0 && host != "" && addressKey.MatchString(key) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// An Approval is what a person approves.
type Approval struct {
	Path, SHA256 string
	Before       string // "" for never, "same", "changed"
	Identities   []string
	Receivers    []Receiver
	Records      []string // where audit records are shipped to
	attempt      *attempt
}

// NewApproval reads the policy for a person to read. Nothing is asked for.
func NewApproval(ctx context.Context, env Env, s Settings) (Approval, error) {
	a, err := readOnly(ctx, env, s)
	if err != nil {
		return Approval{}, err
	}
	list, err := readApprovals(a.settings)
	if err != nil {
		return Approval{}, err
	}
	shown := Approval{Path: a.place(), SHA256: a.policy.SHA256(), attempt: a, Receivers: a.receivers(ctx),
		Records: a.policy.Audit().Places()}
	for _, id := range a.policy.Identities() {
		shown.Identities = append(shown.Identities, id.Name+": "+obtains(id))
	}
	if have, ok := list.Policies[shown.Path]; ok {
		shown.Before = "changed"
		if have.SHA256 == shown.SHA256 && slices.Equal(have.Hosts, shown.hosts()) {
			shown.Before = "same"
		}
	}
	return shown, nil
}

// Text is what the person reads.
func (p Approval) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy %s\n  SHA-256 %s\n", p.Path, p.SHA256)
	switch p.Before {
	case "same":
		b.WriteString("  it is approved already\n")
	case "changed":
		b.WriteString("  it has changed since you approved it\n")
	}
	b.WriteString("identities\n")
	for _, id := range p.Identities {
		fmt.Fprintf(&b, "  %s\n", id)
	}
	b.WriteString("tokens go to\n")
	for _, r := range p.Receivers {
		fmt.Fprintf(&b, "  %s: %s\n", r.Target, r.describe())
	}
	if len(p.Records) > 0 {
		b.WriteString("audit records go to\n")
	}
	for _, place := range p.Records {
		fmt.Fprintf(&b, "  %s\n", place)
	}
	return b.String()
}

func (p Approval) hosts() (hosts []string) {
	for _, r := range p.Receivers {
		hosts = append(hosts, r.Hosts...)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// Remember notes that the person approves.
func (p Approval) Remember(ctx context.Context) error {
	s := p.attempt.settings
	if s.StateDir == "" {
		return login.NoState()
	}
	if err := os.MkdirAll(s.StateDir, 0o700); err != nil {
		return fmt.Errorf("remember the approval: %w", err)
	}
	lock, err := disk.Lock(ctx, approvalsFile(s)+".lock")
	if err != nil {
		return fmt.Errorf("remember the approval: %w", disk.Cause(err))
	}
	defer lock.Close()
	list, err := readApprovals(s)
	if err != nil {
		return err
	}
	list.Policies[p.Path] = approval{SHA256: p.SHA256, Hosts: p.hosts()}
	text, err := json.MarshalIndent(list, "", "  ")
	if err == nil {
		err = disk.Replace(approvalsFile(s), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("remember the approval: %w", err)
	}
	return nil
}
