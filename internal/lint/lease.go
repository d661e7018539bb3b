package lint

var staticLease = check{
	name:     "static-lease",
	severity: Warning,
	meaning:  "Vault returns a secret without a lease, which stays valid after the run.",
	find: func(in *files, found report) {
		in.eachTarget(func(t target) {
			if t.Provider() != "vault" || t.Exchange().Get("static") != "true" {
				return
			}
			found(t.at(t.find("exchange", "vault", "static")), "use a database or cloud secrets engine, which creates a login for each run",
				"target %q gets a secret without a lease, which stays valid after the run", t.Name())
		})
	},
}
