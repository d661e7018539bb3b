package trust

import (
	"fmt"
	"strings"
)

// script creates the credentials that are not there yet.
func (e entraIdentity) script(list []entraCredential) (s Script) {
	e.signedIn(&s)
	for _, c := range list {
		e.create(&s, c)
	}
	e.scriptRecords(&s)
	return s
}

// signedIn stops where az is signed in to another cloud: it keeps the one that
// was used last.
func (e entraIdentity) signedIn(s *Script) {
	cloud := e.cloud.name
	login := "az cloud set --name " + cloud + " && az login --tenant " + quote(e.d.Get("tenant"))
	if _, writes := e.records(); !e.managed && !writes {
		login += " --allow-no-subscriptions"
	}
	s.run("Sign in first, as who may change the "+e.kind()+":\n"+login,
		`test "$(az cloud show --query name --output tsv)" = `+cloud+` || { echo "az is set to another cloud than `+cloud+`" >&2; exit 1; }`,
		command("az", "account", "show", "--query", "{cloud: environmentName, tenant: tenantId, subscription: name}"))
}

func (e entraIdentity) kind() string {
	if e.managed {
		return "managed identity"
	}
	return "application"
}

// objectID is the application's, which Graph's paths have.
func (e entraIdentity) objectID(s *Script) any {
	if id := e.d.Options.Values["principal-id"]; id != "" {
		return id
	}
	return s.needs(Variable{Name: "OBJECT_ID", Doc: "the object id of the application, which is not its client id",
		Find: command("az", "ad", "app", "show", "--id", e.d.Get("client_id"), "--query", "id", "--output", "tsv")})
}

// graph is the address of an application's credentials, in the version of Graph
// that has flexible ones.
func (e entraIdentity) graph(s *Script, name string) shellText {
	url := e.cloud.graph + "/beta/applications/"
	if name != "" {
		name = "/" + name
	}
	if v, ok := e.objectID(s).(shellVar); ok {
		return shellText(`"` + url + "$" + string(v) + "/federatedIdentityCredentials" + name + `"`)
	}
	return shellText(quote(url + e.d.Options.Values["principal-id"] + "/federatedIdentityCredentials" + name))
}

// place are the words that name a managed identity to az.
func (e entraIdentity) place(s *Script) []any {
	find := func(value, variable, doc, query string) any {
		if text := e.d.Options.Values[value]; text != "" {
			return text
		}
		return s.needs(Variable{Name: variable, Doc: doc + ", in the subscription that az is signed in to",
			Find: command("az", "identity", "list",
				"--query", "[?clientId=='"+e.d.Get("client_id")+"']."+query+" | [0]", "--output", "tsv")})
	}
	return []any{
		"--identity-name", find("identity-name", "IDENTITY_NAME", "the name of the managed identity", "name"),
		"--resource-group", find("resource-group", "RESOURCE_GROUP", "the resource group of the managed identity", "resourceGroup"),
	}
}

// create adds the command that creates a credential, unless there is one of its name.
func (e entraIdentity) create(s *Script, c entraCredential) {
	text := asJSON(c)
	switch {
	case e.managed:
		words := append([]any{"az", "identity", "federated-credential", "create", "--name", c.Name}, e.place(s)...)
		s.run(describe(c)+"\nOne that is there under this name is the same.",
			command(append(words, "--issuer", c.Issuer, "--subject", c.Subject, "--audiences", c.Audiences[0])...))
	case c.Expression == nil:
		id := e.d.Get("client_id")
		s.run(describe(c), command("az", "ad", "app", "federated-credential", "show", "--id", id, "--federated-credential-id", c.Name,
			"--output", "none")+" 2>/dev/null ||",
			feed("  "+command("az", "ad", "app", "federated-credential", "create", "--id", id, "--parameters", "@-"), text))
	default:
		s.run(describe(c)+"\nIt is a flexible credential: a preview, which only Graph's beta version has.",
			command("az", "rest", "--method", "get", "--url", e.graph(s, c.Name), "--output", "none")+" 2>/dev/null ||",
			feed("  "+command("az", "rest", "--method", "post", "--url", e.graph(s, ""), "--body", "@-"), text))
	}
}

// describe says whom a credential lets in.
func describe(c entraCredential) string {
	if c.Expression != nil {
		return "Tokens with " + c.Expression.Value
	}
	return "Tokens with the subject " + c.Subject
}

// remove adds the command that deletes a credential.
func (e entraIdentity) remove(s *Script, doc string, c entraCredential) {
	switch {
	case e.managed:
		words := append([]any{"az", "identity", "federated-credential", "delete", "--yes", "--name", c.Name}, e.place(s)...)
		s.run(doc, command(words...))
	case c.Expression == nil:
		s.run(doc, command("az", "ad", "app", "federated-credential", "delete", "--id", e.d.Get("client_id"),
			"--federated-credential-id", c.Name))
	default:
		s.run(doc, command("az", "rest", "--method", "delete", "--url", e.graph(s, c.Name)))
	}
}

// show adds the command that lists the credentials, in the form that
// `oidc-dbt trust check` reads.
func (e entraIdentity) show(doc string, s *Script, to string) {
	var line string
	if e.managed {
		line = command(append([]any{"az", "identity", "federated-credential", "list"}, e.place(s)...)...)
	} else {
		line = command("az", "rest", "--method", "get", "--url", e.graph(s, ""))
	}
	s.run(doc, line+to)
}

// terraform is the credentials for the providers azuread and azurerm.
func (e entraIdentity) terraform(list []entraCredential) string {
	f, label := newTerraform(), hclName(e.d.Name())
	if e.cloud.name != entraClouds[0].name {
		f.comment(fmt.Sprintf("The provider wants environment = %q.", e.cloud.terraform))
	}
	if e.managed {
		e.terraformManaged(f, label, list)
		e.terraformRecords(f, label)
		return f.String()
	}
	data := f.block("data", "azuread_application", label)
	data.set("client_id", e.d.Get("client_id"))
	application := hclRef("data.azuread_application." + label + ".id")
	for _, c := range list {
		kind := "azuread_application_federated_identity_credential"
		if c.Expression != nil {
			kind = "azuread_application_flexible_federated_identity_credential"
			f.comment("A flexible credential is a preview.")
		}
		b := f.block("resource", kind, hclName(c.Name))
		b.set("application_id", application)
		b.set("display_name", c.Name)
		b.set("issuer", c.Issuer)
		if c.Expression != nil {
			b.set("audience", c.Audiences[0])
			b.set("claims_matching_expression", c.Expression.Value)
		} else {
			b.set("audiences", c.Audiences)
			b.set("subject", c.Subject)
		}
	}
	e.terraformRecords(f, label)
	return f.String()
}

func (e entraIdentity) terraformManaged(f *terraform, label string, list []entraCredential) {
	value := func(name, doc string) any {
		if text := e.d.Options.Values[name]; text != "" {
			return text
		}
		return f.variable("entra_"+strings.ReplaceAll(name, "-", "_"), doc)
	}
	name, group := value("identity-name", "the name of the managed identity"), value("resource-group", "its resource group")
	data := f.block("data", "azurerm_user_assigned_identity", label)
	data.set("name", name)
	data.set("resource_group_name", group)
	before := ""
	for _, c := range list {
		b := f.block("resource", "azurerm_federated_identity_credential", hclName(c.Name))
		b.set("name", c.Name)
		b.set("user_assigned_identity_id", hclRef("data.azurerm_user_assigned_identity."+label+".id"))
		b.set("issuer", c.Issuer)
		b.set("subject", c.Subject)
		b.set("audience", c.Audiences)
		if before != "" { // Azure refuses writes to one identity at the same time
			b.set("depends_on", hclList{hclRef(before)})
		}
		before = "azurerm_federated_identity_credential." + hclName(c.Name)
	}
}
