// Command openldap is Vault's secrets engine for LDAP as a plugin that OpenBao starts, which has none of its own.
package main

import (
	"context"
	"log"
	"os"

	openldap "github.com/hashicorp/vault-plugin-secrets-openldap"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
	"github.com/hashicorp/vault/sdk/rotation"
)

// A view answers for OpenBao, which has no rotation jobs.
type view struct{ logical.SystemView }

func (view) DeregisterRotationJob(context.Context, *rotation.RotationJobDeregisterRequest) error {
	return nil
}

func main() {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
	err := plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: func(ctx context.Context, c *logical.BackendConfig) (logical.Backend, error) {
			c.System = view{c.System}
			return openldap.Factory(ctx, c)
		},
		TLSProviderFunc: api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
	if err != nil {
		log.Fatal(err)
	}
}
