# Sourced by the scripts that run our code: which .venv, how many threads, which OpenGL. Sets nothing that is set already.
export PATH="$PWD/.venv/bin:$PATH"
export PYTHONPATH="$PWD/script${PYTHONPATH:+:$PYTHONPATH}"
# Threads of torch that spin while they wait take the cores from the renderer and the receivers (measured: 3 times slower).
cores=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > 8 ? 8 : cores))}
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
# Without a GPU, ask for Mesa's software renderer by name instead of leaving the search to EGL.
if [[ ! -e /dev/nvidiactl && ! -e /dev/dri ]]; then
  export LIBGL_ALWAYS_SOFTWARE=${LIBGL_ALWAYS_SOFTWARE:-1}
fi
