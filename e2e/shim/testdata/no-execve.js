// Makes node one that cannot be replaced by another program.
'use strict';

delete process.execve;
