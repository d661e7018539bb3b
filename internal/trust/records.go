package trust

import (
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// records returns the bucket that the policy ships audit records to, where the
// login is that of its target: it may create objects there, and nothing else.
// A store that is not the vendor's own has permissions of its own kind.
func (d Demand) records() (b policy.Bucket, ok bool) {
	b = d.Policy.Audit().Bucket
	own := b.Kind == "azure" && strings.HasPrefix(b.Endpoint, "https://") || b.Kind != "azure" && b.Endpoint == ""
	return b, own && b.Target == d.Target.Name()
}

// records allows to write records, in the bucket's prefix. (Amazon S3: actions,
// resources, and condition keys)
func (t *awsTrust) records(f *awsFiles, role awsRole) {
	b, ok := t.d.records()
	if !ok {
		return
	}
	allow := permission([]string{"s3:PutObject"}, "arn:"+role.partition+":s3:::"+b.Name+"/"+b.Prefix+"*")
	f.permits(role, hclName(t.d.Name())+"_records", "oidc-dbt-records",
		"The role may write audit records to "+b.URL+".", allow, shellText(quote(compactJSON(permissionDocument(allow)))))
}

// gcpRecordsRole allows to create objects, and neither to read, replace nor delete them.
const gcpRecordsRole = "roles/storage.objectCreator"

// principal is who a login acts as, once it has its credential.
func (p *gcpProvider) principal(d Demand) string {
	if account := d.Get("service_account"); account != "" {
		return "serviceAccount:" + account
	}
	return p.member(d)
}

func gcpOnBucket(verb string, b policy.Bucket, member string) string {
	return command("gcloud", "storage", "buckets", verb, "gs://"+b.Name, "--role="+gcpRecordsRole, "--member="+member)
}

func (p *gcpProvider) terraformRecords(t *terraform, d Demand, b policy.Bucket) {
	r := t.block("resource", "google_storage_bucket_iam_member", hclName(d.Name())+"_records")
	r.set("bucket", b.Name)
	r.set("role", gcpRecordsRole)
	r.set("member", p.principal(d))
}

// entraRecordsAction allows to create blobs, and not to overwrite them: no
// built-in role is for that only. (Azure: data actions of Microsoft.Storage)
const entraRecordsAction = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action"

// An entraRecords is the container that a login writes records to.
type entraRecords struct{ account, container, role string }

func (e entraIdentity) records() (r entraRecords, ok bool) {
	b, ok := e.d.records()
	if !ok {
		return r, false
	}
	account, _, _ := strings.Cut(strings.TrimPrefix(b.Endpoint, "https://"), ".")
	return entraRecords{account, "/blobServices/default/containers/" + b.Name, "oidc-dbt records " + account}, true
}

// scriptRecords makes a role of its own, and assigns it on the container.
func (e entraIdentity) scriptRecords(s *Script) {
	r, ok := e.records()
	if !ok {
		return
	}
	id := string(s.needs(Variable{Name: "STORAGE_ID", Doc: "the resource id of the storage account " + r.account,
		Find: command("az", "storage", "account", "list", "--query", "[?name=='"+r.account+"'].id | [0]", "--output", "tsv")}))
	left, right, _ := strings.Cut(compactJSON(hclObject{
		{"Name", r.role}, {"IsCustom", true}, {"Description", "Create audit records, and nothing else."}, {"Actions", hclList{}},
		{"DataActions", []string{entraRecordsAction}}, {"AssignableScopes", []string{"\x00"}},
	}), `\u0000`)
	s.run("The role that may only create blobs, in the storage account's resource group.",
		`test -n "$(`+command("az", "role", "definition", "list", "--name", r.role, "--query", "[].id", "--output", "tsv")+`)" ||`,
		"  "+command("az", "role", "definition", "create", "--role-definition",
			shellText(quote(left)+`"${`+id+`%/providers/*}"`+quote(right))))
	s.run("The "+e.kind()+" has it on the container. A new role takes some minutes to spread: try again if it is not found.",
		command("az", "role", "assignment", "create", "--assignee", e.d.Get("client_id"), "--role", r.role,
			"--scope", shellText(`"$`+id+`"`+quote(r.container))))
}

func (e entraIdentity) terraformRecords(f *terraform, label string) {
	r, ok := e.records()
	if !ok {
		return
	}
	group := f.variable("storage_resource_group", "The resource group of the storage account "+r.account+".")
	data := f.block("data", "azurerm_resource_group", label+"_records")
	data.set("name", group)
	data = f.block("data", "azurerm_storage_account", label+"_records")
	data.set("name", r.account)
	data.set("resource_group_name", group)
	principal := hclRef("data.azurerm_user_assigned_identity." + label + ".principal_id")
	if !e.managed {
		data = f.block("data", "azuread_service_principal", label)
		data.set("client_id", e.d.Get("client_id"))
		principal = hclRef("data.azuread_service_principal." + label + ".object_id")
	}
	f.comment("A role that may only create blobs: no built-in one does.")
	role := f.block("resource", "azurerm_role_definition", label+"_records")
	role.set("name", r.role)
	role.set("scope", hclRef("data.azurerm_resource_group."+label+"_records.id"))
	role.block("permissions").set("data_actions", []string{entraRecordsAction})
	b := f.block("resource", "azurerm_role_assignment", label+"_records")
	b.set("scope", hclText{hclRef("data.azurerm_storage_account." + label + "_records.id"), r.container})
	b.set("role_definition_id", hclRef("azurerm_role_definition."+label+"_records.role_definition_resource_id"))
	b.set("principal_id", principal)
}
