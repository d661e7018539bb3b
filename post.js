// The action's post step. A file of its own: a post that took itself for main
// would ask for a second credential.
'use strict';

require('./main.js').post();
