"""Digital references, from scikit-learn as it stands."""

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def linear_classifier():
    """Multinomial logistic regression on standardised inputs; its penalty chosen by five-fold cross-validation."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return GridSearchCV(model, {"logisticregression__C": [0.1, 1.0, 10.0, 100.0]}, cv=5)


def small_mlp(seed):
    """One hidden layer of tanh units on standardised inputs; width and penalty chosen by five-fold cross-validation.

    Parameters
    ----------
    seed : int
        Of the initial weights.
    """
    model = make_pipeline(StandardScaler(), MLPClassifier(activation="tanh", solver="lbfgs", max_iter=500, random_state=seed))
    return GridSearchCV(model, {"mlpclassifier__hidden_layer_sizes": [(10,), (30,)],
                                "mlpclassifier__alpha": [0.01, 0.1, 1.0]}, cv=5)
