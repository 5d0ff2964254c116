// A module of its own: the product needs no FUSE.
module github.com/ottlaio/ottla/test/blocklog

go 1.26.0

require github.com/hanwen/go-fuse/v2 v2.12.1

require golang.org/x/sys v0.28.0 // indirect
