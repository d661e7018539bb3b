// Makes node one of another platform and version: PRETEND has what is not as it is.
'use strict';

const zlib = require('node:zlib');

const { platform, arch, node, zstd = true } = JSON.parse(process.env.PRETEND);
const set = (object, name, value) => Object.defineProperty(object, name, { ...Object.getOwnPropertyDescriptor(object, name), value });
if (platform) set(process, 'platform', platform);
if (arch) set(process, 'arch', arch);
if (node) set(process, 'versions', { ...process.versions, node });
if (!zstd) set(zlib, 'zstdDecompressSync', undefined);
