package adapter

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// setting returns a setting of DuckDB's from either of the places where the
// block has them. dbt sets those of `settings` last.
func setting(block *yaml.Node, name string) string {
	if v := optionText(value(block, "settings"), name); v != "" {
		return v
	}
	return optionText(value(block, "config_options"), name)
}

// settled takes the logins out of the entries that get the credential,
// and writes into them what settings say that they lack: the entry outranks
// the setting, so that nothing else says where the credential goes. (DuckDB
// 1.5, httpfs: endpoint, use_ssl and verify_ssl of a secret before s3_endpoint,
// s3_use_ssl and the switches for certificates)
func (st store) settled(block *yaml.Node) *yaml.Node {
	said := map[string]string{}
	for option, name := range st.settings {
		if v := setting(block, name); v != "" {
			said[option] = v
		}
	}
	list := value(block, "secrets")
	if list != nil && list.Kind != yaml.SequenceNode {
		return block // dbt says so
	}
	out := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	found, changed := false, false
	for _, s := range elements(list) {
		if st.isOurs(s) {
			found = true
			full := st.filled(s, said)
			changed = changed || full != s
			s = full
		}
		out.Content = append(out.Content, s)
	}
	if !found && len(said) > 0 {
		changed = true
		out.Content = append(out.Content,
			st.filled(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{text("type"), text(st.kind)}}, said))
	}
	if !changed {
		return block
	}
	return replaced(block, "secrets", out)
}

// filled returns an entry without a login and with what it lacks; the entry
// itself where that changes nothing.
func (st store) filled(s *yaml.Node, said map[string]string) *yaml.Node {
	out, changed := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: s.Line}, false
	for i := 0; i+1 < len(s.Content); i += 2 {
		if slices.Contains(st.drop, strings.ToLower(s.Content[i].Value)) {
			changed = true
			continue
		}
		out.Content = append(out.Content, s.Content[i], s.Content[i+1])
	}
	for _, option := range slices.Sorted(maps.Keys(said)) {
		if optionText(out, option) == "" {
			changed = true
			out.Content = append(out.Content, text(option), text(said[option]))
		}
	}
	if !changed {
		return s
	}
	return out
}

// replaced returns a mapping with the value of a key changed, or added.
func replaced(block *yaml.Node, key string, v *yaml.Node) *yaml.Node {
	out := *block
	out.Content = slices.Clone(block.Content)
	for i := 0; i+1 < len(out.Content); i += 2 {
		if out.Content[i].Tag == "!!str" && out.Content[i].Value == key {
			out.Content[i+1] = v
			return &out
		}
	}
	out.Content = append(out.Content, text(key), v)
	return &out
}

var (
	// duckName is what dbt-duckdb writes to SQL unquoted: an option, a type,
	// the name of a secret.
	duckName = lazy.MustCompile(`^[A-Za-z0-9_.:+~-]+$`)
	// duckAlias is a name as SQL has it, in quotes or without; Jinja is dbt's.
	duckAlias = lazy.MustCompile(`^(?:[\p{L}_][\p{L}\p{N}_.$-]*|"[^"]+"|.*\{\{.*)$`)
	// duckMap is a map of DuckDB's, which dbt-duckdb writes into SQL as it is.
	duckMap = lazy.MustCompile(`(?is)^\s*map\s*\{[^{}]*\}\s*$`)
	// duckPath is a place in an object store, behind a scheme of an extension's or not.
	duckPath = lazy.MustCompile(`(?i)(?:^|[:'"])(?:s3|s3a|s3n|gcs|gs|r2|aws)://[^?]*\?(.*)$`).Where(hasScheme)
	// azurePath is one that names its host.
	azurePath = lazy.MustCompile(`(?i)(?:^|[:'"])(?:azure|az|abfss?)://(?:[^/@]*@)?([^/@]*\.[^/@]*)(?:/|$)`).Where(hasScheme)
	// named are the repositories of extensions that DuckDB knows by name; it
	// verifies the signature of what they give.
	namedRepository = lazy.MustCompile(`^(?:core|core_nightly|community)$`)
	azureHost       = lazy.MustCompile(`^(?:[a-z0-9-]+\.)+(?:blob|dfs)\.(?:core\.(?:windows\.net|usgovcloudapi\.net|` +
		`chinacloudapi\.cn)|storage\.azure\.net)$`)
)

func hasScheme(s string) bool { return strings.Contains(s, "://") }

// unquoted are the values that dbt-duckdb writes into SQL as they are.
var unquoted = []string{
	"secrets.type", "secrets.provider", "secrets.name", "attach.type", "attach.secret", "extensions", "extensions.name",
}

// harmless are the parameters of a path in an object store that choose neither
// host nor login; the others outrank a secret.
var harmless = []string{"s3_region", "s3_url_style", "s3_requester_pays", "s3_url_compatibility_mode"}

// checkAll checks every place where DuckDB, or a library that dbt-duckdb loads
// with it, takes a host, a proxy, or a switch of TLS.
func (st store) checkAll(block *yaml.Node) error {
	var f faults
	found, loopback, sound, from := false, true, true, ""
	for option := range st.settings {
		if setting(block, st.settings[option]) != "" {
			from = ", with what settings say"
		}
	}
	for i, s := range elements(value(block, "secrets")) {
		if !st.isOurs(s) {
			continue
		}
		found = true
		at := top("secrets").index(i)
		at.shown = "secrets" // the type says which one: from settings there may be none
		if err := st.check(s); err != nil {
			sound = false
			f.join(at.fault(" of type %s%s: %v", st.kind, from, err))
		}
		loopback = loopback && optionText(s, "endpoint") != "" && policy.IsLoopback(hostOfOption(s))
		if proxy := optionText(s, "http_proxy"); proxy == "" {
			proxy = setting(block, "http_proxy")
			if proxy != "" && !isTrue(optionText(s, "use_ssl")) {
				f.add("http_proxy", " requires use_ssl: the credential would pass through it unencrypted")
			}
		} else if !isTrue(optionText(s, "use_ssl")) {
			f.join(at.fault(" of type %s: http_proxy requires use_ssl: the credential would pass through it unencrypted", st.kind))
		}
	}
	if !found && st.required != "" {
		f.add("secrets", ": no entry of type %s; add one with %s", st.kind, st.required)
	}
	loopback = loopback && found
	for _, key := range duckKeys(block) {
		if !duckName.MatchString(key.keys[len(key.keys)-1]) {
			f.join(key.fault(": %q is not the name of an option", key.keys[len(key.keys)-1]))
		}
	}
	for _, e := range entries(block) {
		if !sound && st.decides(e) {
			continue // the store's own fault says it
		}
		f.join(checkDuckEntry(st, block, e, loopback))
	}
	return f.err()
}

// decides reports whether check has looked at a value, of an entry or of a
// setting that is the default of one.
func (st store) decides(e entry) bool {
	last := strings.ToLower(e.keys[len(e.keys)-1])
	switch e.keys[0] {
	case "secrets":
		return last == "verify_ssl"
	case "settings", "config_options":
		return slices.Contains(slices.Collect(maps.Values(st.settings)), last)
	}
	return false
}

func hostOfOption(s *yaml.Node) string {
	if parts := hostPort.FindStringSubmatch(optionText(s, "endpoint")); parts != nil {
		return strings.Trim(parts[1], "[]")
	}
	return ""
}

// duckKeys are the keys that dbt-duckdb writes into SQL.
func duckKeys(block *yaml.Node) (list []place) {
	add := func(p place, m *yaml.Node) {
		for i := 0; m != nil && m.Kind == yaml.MappingNode && i+1 < len(m.Content); i += 2 {
			list = append(list, place{append(slices.Clone(p.keys), m.Content[i].Value), p.path, p.shown})
		}
	}
	for _, key := range []string{"settings", "config_options"} {
		add(top(key), value(block, key))
	}
	for i, s := range elements(value(block, "secrets")) {
		add(top("secrets").index(i), s)
	}
	for i, a := range elements(value(block, "attach")) {
		add(top("attach").index(i).at("options"), value(a, "options"))
	}
	for i, p := range elements(value(block, "plugins")) {
		config := value(p, "config")
		for _, key := range []string{"settings", "attach_options"} {
			add(top("plugins").index(i).at("config").at(key), value(config, key))
		}
	}
	return list
}

// checkDuckEntry checks one value, at any place.
func checkDuckEntry(st store, block *yaml.Node, e entry, loopback bool) error {
	v, top, last := textOf(e.value), e.keys[0], strings.ToLower(e.keys[len(e.keys)-1])
	place := top + "." + last
	if len(e.keys) == 1 {
		place = top
	}
	if m := duckPath.FindStringSubmatch(v); m != nil {
		for pair := range strings.SplitSeq(m[1], "&") {
			name, _, _ := strings.Cut(pair, "=")
			if name, err := url.QueryUnescape(name); err != nil || !slices.Contains(harmless, strings.ToLower(name)) {
				return e.fault(" has a parameter that overrides the secret that oidc-dbt writes: move endpoint, use_ssl " +
					"and url_style to an entry of secrets, and remove any login")
			}
		}
	}
	if m := azurePath.FindStringSubmatch(v); m != nil && st.kind == "azure" && !azureHost.MatchString(strings.ToLower(m[1])) {
		return e.fault(": host %q does not belong to Azure Storage, but the access token would be sent there", m[1])
	}
	switch {
	case v == "":
	case slices.Contains(unquoted, place) && !duckName.MatchString(v):
		return e.fault(" is %q, want a name", v)
	case slices.ContainsFunc(e.keys[1:], func(k string) bool { return strings.Contains(strings.ToLower(k), "prox") }) && top != "attach":
		return checkProxy(e.place, v)
	case top == "settings" || top == "config_options" || top == "plugins" && slices.Contains(e.keys, "settings"):
		return checkDuckSetting(st, e, last, v, loopback)
	case place == "attach.alias" && !duckAlias.MatchString(v):
		return e.fault(" is %q, want a name", v)
	case place == "secrets.extra_http_headers" && len(e.keys) == 2 && !policy.IsJinja(v) && !duckMap.MatchString(v):
		return e.fault(" is a string, want a mapping of headers")
	case place == "extensions.repo":
		return checkRepository(e.place, v)
	case top == "secrets" && last == "verify_ssl" && !isTrue(v): // of the others: checked
		host := hostOfEntry(block, e)
		if host == "" || !policy.IsLoopback(host) {
			return e.fault(" is %q, want TLS verified", v)
		}
	case top == "filesystems" || top == "attach" || top == "plugins":
		return checkLibrary(st, block, e, last, v)
	}
	return nil
}

// hostOfEntry returns the host of the secret that a value is in.
func hostOfEntry(block *yaml.Node, e entry) string {
	for i, s := range elements(value(block, "secrets")) {
		if strings.HasPrefix(e.shown, fmt.Sprintf("secrets[%d].", i)) {
			return hostOfOption(s)
		}
	}
	return ""
}

// checkDuckSetting holds a setting of DuckDB's.
func checkDuckSetting(st store, e entry, name, v string, loopback bool) error {
	literal := func() error {
		if policy.IsJinja(v) {
			return e.fault(" must be a literal: it decides where the credential is sent")
		}
		return nil
	}
	switch name {
	case "s3_endpoint", "s3_use_ssl", "azure_endpoint", "azure_account_name", "ca_cert_file", "httpfs_client_implementation":
		if err := literal(); err != nil {
			return err
		}
		if name == "s3_endpoint" && st.kind == "gcs" {
			if host, _, _ := strings.Cut(v, ":"); policy.CheckHost(googleAudience, host) != nil {
				return e.fault(": host %q does not belong to Google Cloud, but the access token would be sent there", host)
			}
		}
	case "enable_server_cert_verification", "enable_curl_server_cert_verification":
		if err := literal(); err != nil {
			return err
		}
		if !isTrue(v) && !loopback {
			return e.fault(" is %q, want TLS verified (turning it off is for loopback only)", v)
		}
	case "allow_unsigned_extensions":
		if !isOff(v) {
			return e.fault(" is %q: an unsigned extension could read the credential: remove it", v)
		}
	case "custom_extension_repository", "autoinstall_extension_repository":
		return checkRepository(e.place, v)
	case "secret_directory":
		return e.fault(" points to stored logins, which could be used instead of the credential: remove it")
	}
	return nil
}

// checkRepository holds where an extension comes from: it runs in dbt's process.
func checkRepository(p place, v string) error {
	v = strings.Trim(v, `'"`)
	if policy.IsJinja(v) {
		return p.fault(" must be a literal: its extensions can read the credential")
	}
	scheme, _, isURL := strings.Cut(v, "://")
	switch {
	case namedRepository.MatchString(v):
	case strings.ContainsAny(v, " ;'\"\n"):
		return p.fault(" is %q, want core, community or a URL with https", v)
	case !isURL: // a folder
	case scheme == "https":
		_, err := checkEndpoint(p, v)
		return err
	default:
		host, err := checkEndpoint(p, v)
		if err != nil || !policy.IsLoopback(host) {
			return p.fault(" is %q, want core, community or a URL with https: its extensions can read the credential", v)
		}
	}
	return nil
}

// checkLibrary holds what fsspec's file systems, plugins and attached catalogs
// take; they find the credential by the environment.
func checkLibrary(st store, block *yaml.Node, e entry, name, v string) error {
	isEndpoint := strings.HasSuffix(name, "endpoint") || strings.HasSuffix(name, "endpoint_url") ||
		strings.HasSuffix(name, "endpoint_override") ||
		name == "uri" || name == "base_url" || name == "account_host"
	isSwitch := slices.Contains([]string{"use_ssl", "verify", "verify_ssl", "ssl", "check_hostname", "verify_hostname"}, name)
	if (isEndpoint || isSwitch) && policy.IsJinja(v) {
		return e.fault(" must be a literal: the credential is sent there")
	}
	switch {
	case name == "account_host":
		if !azureHost.MatchString(strings.ToLower(v)) {
			return e.fault(": host %q does not belong to Azure Storage, but the access token would be sent there", v)
		}
	case isEndpoint && (e.keys[0] == "filesystems" || strings.HasPrefix(strings.ToLower(v), "http")):
		if !strings.Contains(v, "://") {
			v = "https://" + v
		}
		host, err := checkEndpoint(e.place, v)
		if err == nil && st.kind == "gcs" && policy.CheckHost(googleAudience, host) != nil && e.keys[0] == "filesystems" {
			err = e.fault(": host %q does not belong to Google Cloud, but the access token would be sent there", host)
		}
		return err
	case isSwitch && isOffOrPath(name, e.value) && !loopbackElement(block, e):
		return e.fault(" is %q, want TLS verified (turning it off is for loopback only)", v)
	}
	return nil
}

// isOffOrPath reports whether a switch of TLS is off; verify may be a path.
func isOffOrPath(name string, v *yaml.Node) bool {
	if name == "verify" && v.Tag == "!!str" && strings.ContainsAny(v.Value, `./\`) {
		return false
	}
	return !isTrue(v.Value)
}

// loopbackElement reports whether all endpoints of the list's element that a
// value is in are on loopback, and there is one.
func loopbackElement(block *yaml.Node, e entry) bool {
	element, _, _ := strings.Cut(e.shown, ".")
	found := false
	for _, other := range entries(block) {
		if at, _, _ := strings.Cut(other.shown, "."); at != element ||
			!strings.Contains(strings.ToLower(other.keys[len(other.keys)-1]), "endpoint") {
			continue
		}
		host, err := checkEndpoint(other.place, textOf(other.value))
		if err != nil || !policy.IsLoopback(host) {
			return false
		}
		found = true
	}
	return found
}
