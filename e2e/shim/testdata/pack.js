// Packs a file as a release does: node pack.js FILE PACKED [BASE].
'use strict';

const fs = require('node:fs');
const zlib = require('node:zlib');

const [file, packed, base] = process.argv.slice(2);
const dictionary = base && fs.readFileSync(base);
fs.writeFileSync(packed, zlib.zstdCompressSync(fs.readFileSync(file), { dictionary }));
