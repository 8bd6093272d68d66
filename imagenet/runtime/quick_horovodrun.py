"""horovodrun without its search for what Horovod was built with: `python -m imagenet.runtime.quick_horovodrun ARGS …`.

horovodrun loads MXNet in another process to find out whether Horovod has Gloo or MPI, which takes longer than
everything else it does. `distributed.load_horovod` has already checked this when `runner` checked the options.
"""

from horovod.runner import launch


def main():
    launch.gloo_built = launch.mpi_built = lambda verbose=False: True
    launch.run_commandline()


if __name__ == '__main__':
    main()
