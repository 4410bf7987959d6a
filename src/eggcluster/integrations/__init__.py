"""Drop-ins for libraries that need Redis or the like elsewhere. Each module is imported only by the application.

They stand on what an application may use, too. A module whose library is missing says in one line what to install.
"""


def not_installed(module: str, extra: str) -> ImportError:
    """Return the error of an integration whose library is missing."""
    return ImportError(f"eggcluster.integrations.{module} needs a library: pip install 'eggcluster[{extra}]'")
