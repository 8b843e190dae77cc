"""`rulekeep test`: a run that is done, tested at other lengths without training again."""

from rulekeep import api
from rulekeep.commands.options import Integers, Whole
from rulekeep.commands.printed import print_scores
from rulekeep.console import tell
from rulekeep.printable import pasted


def retest(
    run: str,
    /,
    *,
    contexts: Integers,
    examples: Whole | None = None,
) -> int:
    """Test a trained model at other lengths, from its kept weights, and add them to its record.

    Nothing is trained. A length that was tested already is tested again only with more examples.

    Parameters
    ----------
    run
        Folder of one run, RUNS/ID, or a folder of runs that has one only. Four letters of an id
        are enough where no other begins so.
    contexts
        Lengths in tokens to test at, between commas.
    examples
        Test examples at each length; as many as the run's own tests have if left out.
    """
    tested = api.test(run, contexts=contexts, examples=examples)
    print_scores(tested.record)
    tell(f"record: {tested.folder / 'record.json'}")
    tell(f"report: rulekeep report {pasted(tested.folder.parent)}")
    return 0
