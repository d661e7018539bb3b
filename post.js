// The action's post step. It has a file of its own: if it mistook itself for
// main, it would request a second credential.
'use strict';

require('./main.js').post();
