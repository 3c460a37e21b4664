#!/bin/sh
# Unpacks a root filesystem's archive, takes /export out of it, and makes a filesystem of the rest.
#
#   populate.sh ARCHIVE TREE EXPORT COMMAND...
#
# Runs as root, or as root of a user namespace: then device nodes can't be made, and none are needed, because the kernel mounts its own
# /dev before anything could look for them.
set -eu

archive=$1
tree=$2
export=$3
shift 3

mkdir "$tree"
tar --extract --file "$archive" --directory "$tree" --numeric-owner --preserve-permissions \
    --xattrs --xattrs-include='*' --exclude='./dev/*'
rm "$archive"
mv "$tree/export" "$export"
"$@"
rm -rf "$tree"
