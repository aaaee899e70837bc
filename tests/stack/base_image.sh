#!/bin/sh
# Makes a stand-in for Lambda's base image from this machine's own libraries, where no registry can be reached:
# a loader, the C library, certificates and a shell are all that a Rust binary and SAM's wrapper need.
set -eu
image=public.ecr.aws/lambda/provided:al2023
machine=$(uname -m)
busybox=$(command -v busybox) || { echo "error: busybox is missing; install busybox-static" >&2; exit 1; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/etc/ssl/certs" "$root/var/task" "$root/var/runtime" "$root/opt" "$root/tmp" "$root/lib64"
chmod 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
for tool in sh chmod mv ls cat env; do ln -s busybox "$root/bin/$tool"; done
# What the shell and the C programs of any binary here are linked with.
for library in $(ldd "$busybox" /bin/sh 2>/dev/null | grep -o '/[^ ]*\.so[^ ]*' | sort -u) \
  $(ldconfig -p | grep -oE '/[^ ]*/(libc|libm|libgcc_s|libpthread|libdl|librt|libnss_dns|libnss_files|libresolv|ld-linux-[a-z0-9-]*)\.so\.[0-9]+$'); do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
for loader in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1; do
  if [ -e "$loader" ]; then mkdir -p "$root$(dirname "$loader")"; cp -L "$loader" "$root$loader"; fi
done
[ -e /etc/ssl/certs/ca-certificates.crt ] && cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo "root:x:0:0:root:/:/bin/sh" > "$root/etc/passwd"
case $machine in aarch64 | arm64) name=arm64 ;; *) name=x86_64 ;; esac
# The labels and the entry point of Lambda's own images.
tar -C "$root" -c . | docker import \
  --change 'ENTRYPOINT ["/lambda-entrypoint.sh"]' --change 'WORKDIR /var/task' \
  --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin:/opt/bin LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime LD_LIBRARY_PATH=/lib64:/usr/lib64' \
  - "$image" >/dev/null
docker tag "$image" "$image-$name"
echo "made a stand-in for $image"
