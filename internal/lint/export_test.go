package lint

// Walk returns the files below a folder, and the folders that cannot be read.
var Walk = walk
