// What the tests build of olareg: see ../real_registries.py.
module olareg

go 1.21

require github.com/olareg/olareg v0.1.2

require (
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/spf13/cobra v1.8.1 // indirect
	github.com/spf13/pflag v1.0.6 // indirect
)
