package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// Opening a file does not wait here, and ReadOwn has seen that there is no link.
const noWait, noFollow = 0, 0

// ownFile returns an error unless f is this user's.
func ownFile(f *os.File) error {
	descriptor, err := windows.GetSecurityInfo(windows.Handle(f.Fd()), windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("find its owner: %w", err)
	}
	return owned(descriptor)
}

// secretFile returns nil: who may read f, access control lists say.
func secretFile(*os.File) error { return nil }

// owned returns an error unless the owner is the process's user or, where that
// is an elevated administrator, their group, which owns what he makes.
func owned(descriptor *windows.SECURITY_DESCRIPTOR) error {
	owner, _, err := descriptor.Owner()
	if err != nil {
		return fmt.Errorf("find its owner: %w", err)
	}
	if owner == nil {
		return errors.New("has no owner")
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("find the user who runs this program: %w", err)
	}
	if owner.Equals(user.User.Sid) {
		return nil
	}
	administrators, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return fmt.Errorf("find the user who runs this program: %w", err)
	}
	if owner.Equals(administrators) && windows.GetCurrentProcessToken().IsElevated() {
		return nil
	}
	return fmt.Errorf("is owned by %s, want %s, the user running this program", owner, user.User.Sid)
}

// owner returns an error unless the folder is this user's.
func owner(path string, _ fs.FileInfo) error {
	descriptor, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("find its owner: %w", err)
	}
	return owned(descriptor)
}

// Who may enter a folder, and who may rename it, access control lists say
// here, which are not read: the owner is all that is checked.
func renamable(fs.FileInfo) error { return nil }
func closed(fs.FileInfo) error    { return nil }
