package lint

var staticLease = check{
	name:     "static-lease",
	severity: Warning,
	meaning:  "Vault gives the target a secret without a lease: it is stored there, and does not end with the run.",
	find: func(in *files, found report) {
		in.eachTarget(func(t target) {
			if t.Provider() != "vault" || t.Exchange().Get("static") != "true" {
				return
			}
			key, _ := pair(get(t.node, "exchange", "vault"), "static")
			found(t.at(key), "let Vault make a login for each run, by a database or cloud secrets engine",
				"target %q gets a stored secret without a lease, which does not end with the run", t.Name())
		})
	},
}
